"""The methods and scales that are compared, and the sets to tune them on."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agents.algorithms import ActorCriticConfig
from agents.algorithms.base import core_of
from agents.experiments.methods import CONTROL, METHODS, SCALES, cell_config, scene_sets, tuning_set
from agents.experiments.networks import weights_of
from agents.training.config import train_config_from_dict
from agents.training.presets import PRESETS


def test_tuning_parts_the_training_images_and_leaves_the_evaluated_ones_alone(tmp_path):
    for split, names in (("train", [f"a{i}" for i in range(12)]), ("val", ["b0"])):
        for name in names:
            for suffix in ("rgb", "label"):
                path = tmp_path / "data" / split / f"{name}_{suffix}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
    tuned = tuning_set(scene_sets(scenes=tmp_path / "data")["data"], tmp_path / "out")
    found = {split: {p.read_text() for p in (Path(tuned.scenes) / split).iterdir()} for split in ("train", "val")}
    assert found["train"] | found["val"] == {f"a{i}" for i in range(12)}
    assert found["train"] & found["val"] == set()
    assert min(map(len, found.values())) > 0
    assert tuning_set(scene_sets()["leaves"], tmp_path).split == "val"
    assert weights_of(tuned, "standard", tmp_path) == str(tmp_path / "weights" / "data")


def test_streets_are_never_turned_and_are_tuned_on_their_validation_stream(tmp_path):
    cars = scene_sets()["cars"]
    kwargs = cell_config(cars, METHODS["AC-Dice"], SCALES["quick"], "cars-64x192", 0).env.kwargs
    assert kwargs["augmentation"]["quarter_turns"] is False
    leaves = cell_config(scene_sets()["leaves"], METHODS["AC-Dice"], SCALES["quick"], "leaves-64", 0).env.kwargs
    assert "quarter_turns" not in leaves["augmentation"]
    assert (cars.split, tuning_set(cars, tmp_path).split) == ("test", "val")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_configuration_at_every_scale(name):
    for scale in SCALES.values():
        config = cell_config(scene_sets()["leaves"], METHODS[name], scale, "leaves-64", 3)
        assert config.seed == 3
        assert train_config_from_dict(json.loads(json.dumps(asdict(config))), name) == config


def test_a_scale_that_does_not_say_how_long_a_method_trains_is_refused():
    scale = replace(SCALES["quick"], updates={"baseline": 3})
    with pytest.raises(ValueError, match="scale 'quick' has no number of updates for the budget 'actor-critic'"):
        cell_config(scene_sets()["leaves"], METHODS["AC-Dice"], scale, "leaves-64", 0)


def test_a_method_goes_beyond_the_paper_if_it_names_one_to_beat():
    rivals = {name: method.rival for name, method in METHODS.items() if method.rival is not None}
    assert set(METHODS) - set(rivals) == {
        "BL", "BL-Trunc", "BL-Dice", "BL-Trunc-Dice", "AC-Dice", "AC-Dice-NoKL", "AC-Dice-NoSP", "AC-IoU"
    }  # fmt: skip
    assert set(rivals.values()) <= set(METHODS)
    assert CONTROL in rivals.values()


def environment_of(config):
    """Arguments of the environment that a configuration makes, without what cannot be compared."""
    arguments = core_of(config.env.make(1)).arguments
    return {name: value for name, value in arguments.items() if value not in (None, {})}


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("small", "BL-Trunc-Dice-Refined-Stop"),
        ("best", "Critic-Search-Outcomes"),
    ],
)
def test_the_long_presets_are_what_is_reported_at_the_scale_small(preset, name):
    expected = PRESETS[preset]
    config = cell_config(scene_sets()["leaves"], METHODS[name], SCALES["small"], "leaves-64", 0)
    assert replace(config, eval_every=expected.eval_every, env=expected.env) == expected
    assert environment_of(config) == environment_of(expected)


ITERATION_COSTS = {"init": 0.33, "warm-up": 0.65, "baseline": 0.667, "baseline-bptt": 0.695, "actor-critic": 1.43,
                   "search": 1.37, "search-return": 4.6, "refined": 0.808, "critic": 1.28, "critic-refined": 2.24,
                   "stopping-refined": 0.774, "stopping-search": 3.73, "stopping-search-refined": 6.81,
                   "candidate-ac": 1.3, "init-candidate-ac": 0.6, "outcomes": 15.5}  # fmt: skip
"""CPU seconds measured on leaves, 64x64, by stage or budget."""
LEARNS_AS = {
    "critic-search": "refined",
    "critic-search-outcomes": "refined",
    "critic-search-no-stop": "refined",
    "critic-search-no-refine": "baseline",
    "refined-stop": "refined",
}
"""How the policy learns that other stages go on with."""
STOPS_AS = {
    "critic-search": "stopping-search-refined",
    "critic-search-outcomes": "stopping-search-refined",
    "critic-search-no-refine": "stopping-search",
    "candidate-ac": "stopping-search",
    "refined-stop": "stopping-refined",
}
"""What learning to stop costs: a critic that searches decodes many masks."""


def cost_of(stage, budget):
    """CPU seconds of a stage of a method."""
    costs = {
        "init": f"init-{budget}" if f"init-{budget}" in ITERATION_COSTS else "init",
        "main": LEARNS_AS.get(budget, budget),
        "critic": "critic" if LEARNS_AS.get(budget) == "baseline" else "critic-refined",
        "stopping": STOPS_AS.get(budget),
        "outcomes": "outcomes",
    }
    warmup = stage.algorithm.critic_warmup if isinstance(stage.algorithm, ActorCriticConfig) else 0
    each = ITERATION_COSTS[costs[stage.name]]
    return warmup * ITERATION_COSTS["warm-up"] + (stage.iterations - warmup) * each


@pytest.mark.parametrize("scale", ["quick", "medium", "small"])
def test_all_methods_get_about_the_same_cpu_time(scale):
    seconds = {}
    for name, method in METHODS.items():
        stages = cell_config(scene_sets()["leaves"], method, SCALES[scale], "leaves-64", 0).stages
        seconds[name] = sum(cost_of(stage, method.budget) for stage in stages)
    assert max(seconds.values()) < 1.06 * min(seconds.values())
