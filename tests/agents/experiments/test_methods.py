"""The methods and scales that are compared, and the sets to tune them on."""

from dataclasses import replace
from pathlib import Path

import pytest

from agents.experiments.methods import METHODS, SCALES, cell_config, scene_sets, tuning_set
from agents.experiments.networks import weights_of
from agents.training.config import PRESETS


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


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_configuration_at_every_scale(name):
    for scale in SCALES.values():
        config = cell_config(scene_sets()["leaves"], METHODS[name], scale, "leaves-64", 3)
        assert config.seed == 3


@pytest.mark.parametrize(("preset", "name"), [("small", "Refined"), ("best", "Judge-Refined")])
def test_the_long_presets_are_what_is_reported_at_the_scale_small(preset, name):
    config = cell_config(scene_sets()["leaves"], METHODS[name], SCALES["small"], "leaves-64", 0)
    assert replace(config, eval_every=PRESETS[preset].eval_every) == PRESETS[preset]


ITERATION_COSTS = {"init": 0.33, "warm-up": 0.65, "bl": 0.667, "bl-bptt": 0.695, "ac": 1.43, "search": 1.37,
                   "search-return": 4.6, "judge": 1.77, "judge-return": 5.6, "refined": 0.8,
                   "judge-refined": 2.23}  # fmt: skip
"""CPU seconds measured on leaves, 64x64, by phase or kind."""
LEARNS_AS = {"judge": "bl", "judge-return": "bl", "judge-refined": "refined"}
"""How a judge's policy learns."""


@pytest.mark.parametrize("scale", ["quick", "medium", "small"])
def test_all_methods_get_about_the_same_cpu_time(scale):
    seconds = {}
    for name, method in METHODS.items():
        phases = cell_config(scene_sets()["leaves"], method, SCALES[scale], "leaves-64", 0).phases
        kinds = {"main": LEARNS_AS.get(method.kind, method.kind), "judge": method.kind}
        seconds[name] = sum(p.iterations * ITERATION_COSTS[kinds.get(p.name, p.name)] for p in phases)
    assert max(seconds.values()) < 1.06 * min(seconds.values())
