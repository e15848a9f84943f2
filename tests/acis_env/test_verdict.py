"""What scores of networks mean, and which networks are refused."""

import json

import pytest

from acis_env.verdict import WEAK, check_weights, describe, weakness
from acis_env.weights import BUNDLED, save_weights


@pytest.fixture
def write(pretrained, tmp_path):
    """A function of two scores that writes a folder of weights with them; None leaves one out."""

    def make(foreground, reconstruction):
        for network, name, score in (
            (pretrained.context_network, "foreground_dice", foreground),
            (pretrained.autoencoder, "reconstruction_dice", reconstruction),
        ):
            save_weights(tmp_path, network, None if score is None else {"held_out": {name: score}})
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ((0.9, 0.1), ["reconstruction Dice of the decoder is 0.100"]),
        ((0.2, 0.9), ["foreground Dice of the context network is 0.200"]),
        (
            (0.0, 0.0),
            ["foreground Dice of the context network is 0.000", "reconstruction Dice of the decoder is 0.000"],
        ),
    ],
)
def test_weak_networks_are_refused_with_their_folder_every_score_and_what_was_expected(write, scores, named):
    folder = write(*scores)
    with pytest.raises(ValueError, match=f"^{folder}: ") as error:
        check_weights(folder)
    assert str(error.value).count(f"on held-out scenes, expected at least {WEAK}") == len(named)
    assert all(part in str(error.value) for part in named)


@pytest.mark.parametrize("scores", [(WEAK, WEAK), (None, None), (0.99, None)])
def test_networks_that_are_good_enough_or_were_never_measured_are_not_refused(write, scores):
    check_weights(write(*scores))


@pytest.mark.parametrize("name", sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()))
def test_bundled_networks_are_good_enough(name):
    check_weights(name)


def test_a_score_that_is_not_a_number_is_weak(write, tmp_path):
    folder = write(0.9, 0.9)
    card = json.loads((folder / "autoencoder.json").read_text())
    assert weakness("autoencoder", card["training"]["held_out"]) is None
    assert weakness("autoencoder", {"reconstruction_dice": float("nan")}) is not None


def test_the_verdict_of_a_decoder_gives_the_bound_of_agents():
    scores = {"reconstruction_dice": 0.95, "reconstruction_dice_q10": 0.8, "reconstruction_sbd": 0.9375}
    assert "an SBD of 0.938, and agents stay below" in describe("autoencoder", scores)
    assert "the right angle at 90% of the pixels" in describe(
        "context", {"foreground_dice": 0.9, "angle_accuracy": 0.9}
    )
