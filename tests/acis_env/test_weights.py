"""Weights on disk: what is written is read again, and every damage is told apart and named."""

import json
import random
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import acis_env.weights
from acis_env.weights import (
    Pretrained,
    find_weights,
    load_autoencoder,
    load_context_network,
    load_pretrained,
    save_weights,
)

BUNDLED = {
    "cars-256x768": (256, 768),
    "cars-64x192": (64, 192),
    "leaves-224": (224, 224),
    "leaves-64": (64, 64),
    "nuclei-224": (224, 224),
    "nuclei-64": (64, 64),
}
FILES = ("autoencoder.json", "autoencoder.safetensors", "context.json", "context.safetensors")


@pytest.fixture
def folder(tmp_path, pretrained):
    """Tiny networks on disk."""
    folder = tmp_path / "weights"
    save_weights(folder, pretrained.context_network)
    save_weights(folder, pretrained.autoencoder, {"iterations": 3})
    return folder


def edit_json(path, change):
    """Apply `change` to the content of a JSON file in place, and take its checksum out, as whoever edits it has to."""
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    path.write_text(json.dumps(content))


def test_a_folder_holds_weights_and_configuration_of_both_networks(folder):
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert json.loads((folder / "autoencoder.json").read_text())["training"] == {"iterations": 3}


def test_loaded_networks_equal_the_saved_ones(folder, pretrained):
    loaded = load_pretrained(folder)
    assert isinstance(loaded, Pretrained)
    assert loaded.size == (32, 32)
    for after, before in (
        (loaded.context_network, pretrained.context_network),
        (loaded.autoencoder, pretrained.autoencoder),
    ):
        assert after.config == before.config
        expected = before.state_dict()
        assert after.state_dict().keys() == expected.keys()
        for name, tensor in after.state_dict().items():
            assert torch.equal(tensor, expected[name])


def test_networks_on_another_device_are_copies(folder):
    networks = load_pretrained(folder)
    assert networks.to("cpu") is networks
    moved = networks.to("meta")
    assert {p.device.type for p in moved.autoencoder.parameters()} == {"meta"}
    assert {p.device.type for p in moved.context_network.parameters()} == {"meta"}
    assert {p.device.type for p in networks.autoencoder.parameters()} == {"cpu"}


def test_loaded_networks_compute_what_the_saved_ones_do(folder, pretrained):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    results = []
    for networks in (pretrained, load_pretrained(str(folder))):
        context = networks.context_network.context(images)
        results.append((context, networks.autoencoder.reconstruct(context, (context[:, :1] > 0.5).float())))
    torch.testing.assert_close(results[0], results[1])


def test_loaded_networks_are_frozen(folder):
    loaded = load_pretrained(folder)
    for network in (loaded.context_network, loaded.autoencoder):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_options_other_than_the_defaults_survive_the_round_trip(tmp_path, make_networks):
    networks = make_networks(size=(32, 64), state_pyramid=False, image_mean=(0.1, 0.2, 0.3))
    save_weights(tmp_path, networks.autoencoder)
    assert load_autoencoder(tmp_path).config == networks.autoencoder.config


def test_weights_stored_as_float16_take_half_the_space_and_load_as_float32(folder, pretrained):
    whole = (folder / "autoencoder.safetensors").stat().st_size
    save_weights(folder, pretrained.autoencoder, half=True)
    assert (folder / "autoencoder.safetensors").stat().st_size < 0.7 * whole  # the header stays
    expected = pretrained.autoencoder.state_dict()
    for name, tensor in load_autoencoder(folder).state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name].half().float())


def test_an_unknown_name_is_refused_with_the_names_of_the_bundled_weights(monkeypatch, tmp_path):
    (tmp_path / "tulips-32").mkdir()
    monkeypatch.setattr(acis_env.weights, "BUNDLED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'leafs'.*tulips-32"):
        load_pretrained("leafs")


def test_a_bundled_name_finds_its_folder(monkeypatch, folder):
    monkeypatch.setattr(acis_env.weights, "BUNDLED", folder.parent)
    assert load_pretrained(folder.name).size == (32, 32)


@pytest.mark.parametrize(("name", "size"), BUNDLED.items())
def test_bundled_networks_load_and_their_card_tells_their_scores(name, size):
    pretrained = load_pretrained(name)
    assert pretrained.size == size
    card = (find_weights(name) / "CARD.md").read_text()
    for part, scores in (("context", ("foreground_dice", "angle_accuracy")), ("autoencoder", ("reconstruction_dice",))):
        held_out = json.loads((find_weights(name) / f"{part}.json").read_text())["training"]["held_out"]
        assert all(f"{held_out[score]:.3f}" in card for score in scores)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["autoencoder", "context"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_of_weights_is_refused(folder, name, share):
    path = folder / f"{name}.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}\.safetensors: not a whole safetensors file"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "expected a JSON object, got what is not JSON"),
        ("{", "expected a JSON object, got what is not JSON"),
        ("\ud800", "expected a JSON object, got what is not JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ('"config"', "expected a JSON object, got 'config'"),
        ("3", "expected a JSON object, got 3"),
        ("{}", '"config" must be an object, got no such key'),
        ('{"training": {}}', '"config" must be an object, got no such key'),
    ],
)
def test_a_json_file_without_a_configuration_is_refused(folder, content, named):
    (folder / "context.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=rf"context\.json: {named}"):
        load_context_network(folder)


def test_a_configuration_that_is_no_object_is_refused(folder):
    (folder / "context.json").write_text('{"config": [1]}')
    with pytest.raises(ValueError, match=r'context\.json: "config" must be an object, got list'):
        load_context_network(folder)


def test_an_unknown_key_of_the_configuration_is_named(folder):
    edit_json(folder / "autoencoder.json", lambda content: content["config"].update(latent_length=4))
    with pytest.raises(ValueError, match=r"autoencoder\.json: latent_length: unknown key, .*'latent_size'"):
        load_autoencoder(folder)


def test_a_missing_key_of_the_configuration_takes_its_default(folder):
    edit_json(folder / "context.json", lambda content: content["config"].pop("architecture"))
    assert load_context_network(folder).config.architecture == "unet"


def test_a_default_that_the_tensors_do_not_fit_is_refused(folder):
    edit_json(folder / "autoencoder.json", lambda content: content["config"]["encoder"].pop("features"))
    with pytest.raises(ValueError, match=r"autoencoder\.safetensors does not fit its configuration"):
        load_autoencoder(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
    edit_json(folder / "autoencoder.json", lambda content: content["config"].update(latent_size=5))
    with pytest.raises(ValueError, match=r"decoder\.hidden\.weight is \[16, 4\], expected \[16, 5\]"):
        load_autoencoder(folder)


def test_missing_and_unknown_tensors_are_named(folder, pretrained):
    state = {name: tensor.contiguous() for name, tensor in pretrained.context_network.state_dict().items()}
    state["surplus"] = state.pop("body.stem.bias")
    save_file(state, folder / "context.safetensors")
    edit_json(folder / "context.json", lambda content: content.pop("weights_sha256"))
    with pytest.raises(ValueError, match=r"body\.stem\.bias is missing; surplus is unknown"):
        load_context_network(folder)


def test_networks_for_different_sizes_are_refused(folder, make_networks):
    save_weights(folder, make_networks(size=(64, 64)).context_network)
    with pytest.raises(ValueError, match=r"context network is for \(64, 64\) and the autoencoder for \(32, 32\)"):
        load_pretrained(folder)


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(folder, make_networks, monkeypatch):
    before = {name: (folder / name).read_bytes() for name in FILES}

    def stop_half_way(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        save_weights(folder, make_networks(seed=1).autoencoder)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_again_replaces_the_old_weights(folder, make_networks):
    other = make_networks(seed=1)
    assert not torch.equal(other.autoencoder.decoder.head.weight, load_autoencoder(folder).decoder.head.weight)
    save_weights(folder, other.autoencoder)
    assert torch.equal(other.autoencoder.decoder.head.weight, load_autoencoder(folder).decoder.head.weight)


def test_every_option_of_a_configuration_is_written(folder, pretrained):
    config = json.loads((folder / "context.json").read_text())["config"]
    assert set(config) == {field.name for field in fields(pretrained.context_network.config)}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_noticed_wherever_it_is(folder, name):
    path, draw = folder / name, random.Random(name)
    whole, expected = path.read_bytes(), load_pretrained(folder).autoencoder.state_dict()
    for _ in range(50):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            found = load_pretrained(folder).autoencoder.state_dict()
        except ValueError:
            continue
        # White space of the JSON file, or the name of its checksum.
        assert path.suffix == ".json"
        assert all(torch.equal(value, expected[key]) for key, value in found.items())


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_have_checksums(name, caplog):
    load_pretrained(name)
    assert caplog.text == ""
    for card in find_weights(name).glob("*.json"):
        assert {"sha256", "weights_sha256"} < json.loads(card.read_text()).keys()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x: torch.full_like(x, torch.nan), "holds NaN or infinity"),
        (lambda x: torch.full_like(x, -torch.inf), "holds NaN or infinity"),
        (lambda x: x.int(), r"is torch\.int32, expected torch\.float32"),
        (lambda x: x.to(torch.complex64), r"is torch\.complex64, expected torch\.float32"),
    ],
)
def test_tensors_that_are_no_weights_are_named(folder, pretrained, change, named):
    state = {name: tensor.contiguous() for name, tensor in pretrained.context_network.state_dict().items()}
    state["body.stem.bias"] = change(state["body.stem.bias"])
    save_file(state, folder / "context.safetensors")
    edit_json(folder / "context.json", lambda content: content.pop("weights_sha256"))
    with pytest.raises(ValueError, match=rf"context\.safetensors .*body\.stem\.bias {named}$"):
        load_context_network(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"latent_size": 2_000_000}, r"latent_size must be from 1 to 65536, got 2000000"),
        ({"latent_size": 60_000}, r"decoder\.hidden\.weight is \[16, 4\], expected \[16, 60000\]"),
        ({"size": [65_536, 65_536], "hidden": 65_536}, r"size must be \(H, W\), each at most 16384"),
        ({"hidden": 0}, "hidden must be .*, got 0"),
        ({"decoder_widths": [-3]}, "decoder_widths must be .*, got .*-3"),
        ({"decoder_widths": [1] * 100_000}, "decoder_widths must be at most 32 numbers, got 100000"),
    ],
)
def test_sizes_that_the_tensors_do_not_have_are_refused_before_memory_is_taken(folder, monkeypatch, change, named):
    edit_json(folder / "autoencoder.json", lambda content: content["config"].update(change))
    made, empty = [], torch.empty

    def note(*shape, **options):
        tensor = empty(*shape, **options)
        made.append(tensor.numel() * (tensor.device.type != "meta"))
        return tensor

    monkeypatch.setattr(torch, "empty", note)  # all layers begin with it
    with pytest.raises(ValueError, match=named) as error:
        load_autoencoder(folder)
    assert "\n" not in str(error.value)
    assert sum(made) == 0


def test_loading_draws_as_many_random_numbers_as_making_the_network(folder, pretrained):
    torch.manual_seed(0)
    load_autoencoder(folder)
    after = torch.rand(1)
    torch.manual_seed(0)
    type(pretrained.autoencoder)(pretrained.autoencoder.config)
    assert torch.equal(torch.rand(1), after)
