"""A pre-training that was interrupted goes on as if it had not been, and another one begins anew."""

import pytest
import torch

from acis_env import pretraining
from acis_env.context import ContextConfig
from acis_env.datasets import PackedScenes
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.pretraining import PretrainConfig, pretrain_autoencoder, pretrain_context

CONFIG = PretrainConfig(iterations=6, batch_size=3, eval_every=2, seed=5)
CONTEXT = ContextConfig(widths=(4, 6), size=(32, 32))
AUTOENCODER = AutoencoderConfig((32, 32), 3, 8, 2, (4, 4), TrunkConfig((4, 4), 8, "stride"))


@pytest.fixture(params=["context", "autoencoder"])
def pretrain(request, scenes, pretrained):
    """A function of a configuration and a folder that trains one of the networks."""
    packed = PackedScenes(scenes, (32, 32))
    if request.param == "context":
        return lambda config, folder: pretrain_context(packed, packed, CONTEXT, config, folder)
    network = pretrained.context_network
    return lambda config, folder: pretrain_autoencoder(packed, packed, network, AUTOENCODER, config, folder)


@pytest.fixture
def interrupt(monkeypatch):
    """A function after whose call the draw of batch number `last` is an interruption; it gives all batches drawn."""
    draw, drawn = pretraining.draw_batch, []

    def until(last):
        drawn.clear()

        def drawing(*arguments):
            drawn.append(arguments)
            if len(drawn) == last:
                raise KeyboardInterrupt
            return draw(*arguments)

        monkeypatch.setattr(pretraining, "draw_batch", drawing)
        return drawn

    return until


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def unfinished(folder):
    return [path for path in folder.iterdir() if path.suffix == ".pt"]


def test_an_interrupted_pretraining_goes_on_bit_by_bit(pretrain, interrupt, tmp_path):
    whole = weights(pretrain(CONFIG, tmp_path / "whole"))
    interrupt(6)
    with pytest.raises(KeyboardInterrupt):
        pretrain(CONFIG, tmp_path / "parts")
    assert len(unfinished(tmp_path / "parts")) == 1
    drawn = interrupt(None)
    assert torch.equal(weights(pretrain(CONFIG, tmp_path / "parts")), whole)
    assert len(drawn) == 2
    assert not unfinished(tmp_path / "parts")
    assert not unfinished(tmp_path / "whole")


def test_a_finished_pretraining_begins_anew(pretrain, interrupt, tmp_path):
    pretrain(CONFIG, tmp_path)
    drawn = interrupt(None)
    pretrain(CONFIG, tmp_path)
    assert len(drawn) == 6


def test_a_state_with_other_settings_is_no_beginning(pretrain, interrupt, tmp_path):
    interrupt(4)
    with pytest.raises(KeyboardInterrupt):
        pretrain(CONFIG, tmp_path)
    other = PretrainConfig(iterations=6, batch_size=3, eval_every=2, seed=6)
    drawn = interrupt(None)
    found = weights(pretrain(other, tmp_path))
    assert len(drawn) == 6
    assert torch.equal(found, weights(pretrain(other, tmp_path / "whole")))


def test_a_decoder_does_not_go_on_under_another_context_network(scenes, make_networks, interrupt, tmp_path):
    packed = PackedScenes(scenes, (32, 32))
    interrupt(4)
    with pytest.raises(KeyboardInterrupt):
        pretrain_autoencoder(packed, packed, make_networks().context_network, AUTOENCODER, CONFIG, tmp_path)
    other = make_networks(seed=1).context_network
    with pytest.raises(ValueError, match="unfinished training of its autoencoder with other settings"):
        pretrain_autoencoder(packed, packed, other, AUTOENCODER, CONFIG, tmp_path, overwrite=False)
    drawn = interrupt(None)
    found = weights(pretrain_autoencoder(packed, packed, other, AUTOENCODER, CONFIG, tmp_path))
    assert len(drawn) == 6
    assert torch.equal(
        found, weights(pretrain_autoencoder(packed, packed, other, AUTOENCODER, CONFIG, tmp_path / "whole"))
    )


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_a_damaged_state_is_named(pretrain, interrupt, kept, tmp_path):
    interrupt(4)
    with pytest.raises(KeyboardInterrupt):
        pretrain(CONFIG, tmp_path)
    (path,) = unfinished(tmp_path)
    content = bytearray(path.read_bytes())[: int(kept * path.stat().st_size)]
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}"):
        pretrain(CONFIG, tmp_path)
