"""Configurations from JSON: what is read equals what was written, and every misfit is named with its place."""

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import pytest

from acis_env.configs import config_from_dict, nearest_first
from acis_env.context import ContextConfig
from acis_env.decoder import AutoencoderConfig
from acis_env.networks import TrunkConfig
from acis_env.pretraining import PretrainConfig


@dataclass(frozen=True)
class Optimiser:
    rate: float = 1e-3
    decay: tuple[tuple[float, float], ...] = ((0.5, 0.1),)


@dataclass(frozen=True)
class Myopic:
    kind: Literal["myopic"] = "myopic"
    optimiser: Optimiser = Optimiser()


@dataclass(frozen=True)
class Farsighted:
    kind: Literal["farsighted"] = "farsighted"
    gamma: float = 0.9

    def __post_init__(self):
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {self.gamma}")


@dataclass(frozen=True)
class Run:
    length: int
    schedule: tuple[Myopic | Farsighted, ...] = ()
    last: Myopic | Farsighted | None = None
    optimiser: Optimiser = Optimiser()
    warm_up: Optimiser | None = None
    size: tuple[int, int] = (64, 32)
    crop: int | tuple[int, int] | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False
    scenes: dict[str, Any] = field(default_factory=dict)
    wrapper: Annotated[dict[str, Any], "shown as JSON"] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def read(**values):
    return config_from_dict(Run, {"length": 3, **values}, "run.json")


def test_a_configuration_survives_the_way_through_json():
    run = Run(
        length=7,
        schedule=(Farsighted(gamma=0.5), Myopic(optimiser=Optimiser(decay=())), Farsighted()),
        last=Myopic(),
        warm_up=Optimiser(rate=0.5, decay=((0.1, 1.0), (0.2, 2.0))),
        crop=(3, 4),
        device="cuda",
        compile=True,
        scenes={"sides": [1, 2], "deep": {"seed": 0, "none": None}},
        wrapper={"factor": 2.0},
        names=("a", "b"),
    )
    assert config_from_dict(Run, json.loads(json.dumps(asdict(run))), "run.json") == run
    assert config_from_dict(Run, asdict(run), "tuples in place of lists") == run


def test_a_missing_key_takes_its_default():
    assert read() == Run(length=3)
    assert read(optimiser={"rate": 0.5}).optimiser == Optimiser(rate=0.5)
    assert read(schedule=[{"kind": "farsighted"}]).schedule == (Farsighted(),)


def test_an_integer_passes_for_a_float():
    assert read(optimiser={"rate": 1, "decay": [[1, 2]]}).optimiser == Optimiser(rate=1.0, decay=((1.0, 2.0),))


def test_the_key_kind_picks_the_class_of_a_union():
    assert read(last={"kind": "farsighted", "gamma": 0.3}).last == Farsighted(gamma=0.3)
    assert read(last={"kind": "myopic"}).last == Myopic()
    assert read(last=None).last is None


def test_an_optional_dataclass_is_an_object_or_null():
    assert read(warm_up={"rate": 0.1}).warm_up == Optimiser(rate=0.1)
    assert read(warm_up=None).warm_up is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lenght": 1}, "lenght: unknown key, the nearest of Run are 'length', "),
        ({"optimiser": {"rat": 1}}, "optimiser.rat: unknown key, the nearest of Optimiser are 'rate', 'decay'"),
        ({"warm_up": {"rat": 1}}, "warm_up.rat: unknown key, "),
        (
            {"schedule": [{"kind": "myopic"}, {"kind": "farsighted", "rate": 1}]},
            "schedule[1].rate: unknown key, the nearest of Farsighted are ",
        ),
        ({"length": "3"}, "length: expected int, got '3'"),
        ({"length": 3.0}, "length: expected int, got 3.0"),
        ({"length": True}, "length: expected int, got True"),
        ({"length": None}, "length: expected int, got None"),
        ({"compile": 1}, "compile: expected bool, got 1"),
        ({"optimiser": {"rate": "1"}}, "optimiser.rate: expected float, got '1'"),
        ({"optimiser": {"rate": False}}, "optimiser.rate: expected float, got False"),
        ({"optimiser": 3}, "optimiser: expected an object (Optimiser), got 3"),
        ({"optimiser": {"decay": [[1, 2, 3]]}}, "optimiser.decay[0]: expected tuple[float, float], got [1, 2, 3]"),
        (
            {"optimiser": {"decay": [[1, 2], [1, "2"]]}},
            "optimiser.decay: expected tuple[tuple[float, float], ...], got ((1, 2), (1, '2'))",
        ),
        ({"size": [1]}, "size: expected tuple[int, int], got [1]"),
        ({"size": "ab"}, "size: expected tuple[int, int], got 'ab'"),
        ({"size": 3}, "size: expected tuple[int, int], got 3"),
        ({"names": "ab"}, "names: expected tuple[str, ...], got 'ab'"),
        ({"names": [1]}, "names: expected tuple[str, ...], got (1,)"),
        ({"crop": "3"}, "crop: expected int or tuple[int, int] or null, got '3'"),
        ({"crop": [1, 2, 3]}, "crop: expected int or tuple[int, int] or null, got [1, 2, 3]"),
        ({"device": "gpu"}, "device: expected one of 'cpu', 'cuda', got 'gpu'"),
        ({"scenes": [1]}, "scenes: expected dict[str, Any], got [1]"),
        ({"wrapper": "{}"}, "wrapper: expected dict[str, Any], got '{}'"),
        ({"wrapper": {1: 2}}, "wrapper: expected dict[str, Any], got {1: 2}"),
        ({"last": {"kind": "farsight"}}, "last.kind: expected one of 'farsighted', 'myopic', got 'farsight'"),
        ({"last": {"kind": ["myopic"]}}, "last.kind: expected one of 'myopic', 'farsighted', got ['myopic']"),
        ({"last": {}}, "last.kind: expected one of 'myopic', 'farsighted', but there is no such key"),
        ({"last": "myopic"}, "last: expected an object (Myopic) or an object (Farsighted) or null, got 'myopic'"),
        ({"schedule": ["myopic"]}, "schedule: expected an object (Myopic) or an object (Farsighted), got 'myopic'"),
        ({"schedule": 3}, "schedule: expected tuple[an object (Myopic) or an object (Farsighted), ...], got 3"),
        (
            {"schedule": [{"kind": "myopic", "optimiser": {"rate": ""}}]},
            "schedule[0].optimiser.rate: expected float, got ''",
        ),
    ],
)
def test_a_misfit_is_named_with_its_place_in_one_line(values, message):
    with pytest.raises(ValueError, match=r"^run\.json: ") as caught:
        read(**values)
    assert str(caught.value).startswith(f"run.json: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_key_without_default_is_named():
    with pytest.raises(ValueError, match=r"^run\.json: length: missing key, and it has no default$"):
        config_from_dict(Run, {}, "run.json")


@pytest.mark.parametrize(
    "values", [{"last": {"kind": "farsighted", "gamma": 2}}, {"schedule": [{"kind": "farsighted", "gamma": 2}]}]
)
def test_what_a_class_says_of_its_values_stays_as_it_is(values):
    with pytest.raises(ValueError, match=r"^run\.json: gamma must be in \(0, 1\], got 2$"):
        read(**values)


def test_the_values_are_left_as_they_are():
    values = {"length": 1, "schedule": [{"kind": "myopic"}], "scenes": {"sides": [1]}}
    before = json.dumps(values)
    assert config_from_dict(Run, values, "run.json").scenes == {"sides": [1]}
    assert json.dumps(values) == before


def test_the_nearest_names_come_first():
    assert nearest_first("leafs", ["x", "folder", "leaves"]) == ["leaves", "folder", "x"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoencoderConfig(latent_size=0), "latent_size must be from 1 to 65536, got 0"),
        (lambda: AutoencoderConfig(hidden=-3), "hidden must be from 1 to 65536, got -3"),
        (lambda: AutoencoderConfig(decoder_widths=()), "decoder_widths must hold at least one"),
        (lambda: AutoencoderConfig(decoder_widths=(8, 0)), r"decoder_widths must be from 1 to 65536, got \(8, 0\)"),
        (lambda: AutoencoderConfig(latent_size=2**63), "latent_size must be from 1 to 65536, got 9223372036854775808"),
        (lambda: AutoencoderConfig(size=(2**40, 32)), "size must be .* each at most 16384, got"),
        (lambda: AutoencoderConfig(image_std=(1.0, float("nan"), 1.0)), "image_std must be positive, got"),
        (lambda: TrunkConfig(widths=(4,) * 100), "widths must be at most 32 numbers, got 100"),
        (lambda: ContextConfig(widths=()), "widths must hold at least one"),
        (lambda: PretrainConfig(iterations=0), "iterations must be at least 1, got 0"),
        (lambda: PretrainConfig(learning_rate=float("nan")), "learning_rate must be at least 0, got nan"),
    ],
)
def test_sizes_and_lengths_that_nothing_has_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("observation", "obs"), ("envs", "num_envs"), ("treshold", "threshold")],
)
def test_the_nearest_name_comes_first(name, nearest):
    known = ["num_envs", "augmentation", "action_scale", "obs_dtype", "threshold", "obs"]
    assert nearest_first(name, known)[0] == nearest
    assert sorted(nearest_first(name, known)) == sorted(known)
