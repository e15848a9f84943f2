"""The cells of an experiment."""

import pytest

from agents.experiments.methods import METHODS, scene_sets
from agents.experiments.plan import plan_cells


def plan(tmp_path, methods=("BL-Trunc", "Critic-Search"), scale="smoke", seeds=(3, 4)):
    sets = scene_sets()
    return plan_cells([sets["leaves"], sets["leaves-crowded"]], methods, scale, seeds, tmp_path, "cpu")


def test_cells_are_planned_seed_by_seed_in_folders_of_their_own(tmp_path):
    cells = plan(tmp_path)
    names = [(cell.config.seed, cell.scene_set.name, cell.method) for cell in cells]
    pairs = [(scenes, method) for scenes in ("leaves", "leaves-crowded") for method in ("BL-Trunc", "Critic-Search")]
    assert names == [(seed, *pair) for seed in (3, 4) for pair in pairs]
    assert cells[0].folder == tmp_path / "leaves" / "BL-Trunc" / "seed-3"
    assert cells[0].name == "leaves/BL-Trunc/seed-3"
    assert len({cell.folder for cell in cells}) == len(cells)


def test_a_cell_trains_on_the_scenes_of_its_set(tmp_path):
    plain, crowded = (cell.config.env for cell in plan(tmp_path, methods=("BL",), seeds=(0,)))
    assert plain.kwargs["scenes"] == crowded.kwargs["scenes"] == "dataset:leaves"
    assert plain.kwargs["scene_options"] == plain.val_kwargs["scene_options"] == {}
    crowd = {"min_leaves": 7, "max_leaves": 12}
    assert crowded.kwargs["scene_options"] == crowded.val_kwargs["scene_options"] == crowd


def test_the_methods_of_the_paper_are_planned_if_none_are_named_and_are_blocked_once(tmp_path):
    cells = plan(tmp_path, methods=(), seeds=(0,))
    paper = [name for name, method in METHODS.items() if method.rival is None]
    assert [cell.method for cell in cells] == paper * 2
    assert all(cell.is_blocked for cell in cells)
    assert [cell.is_blocked for cell in plan(tmp_path, seeds=(0,))] == [True, False] * 2


def test_names_that_do_not_exist_are_named_with_those_that_do(tmp_path):
    with pytest.raises(ValueError, match=r"unknown method 'AC': expected one of AC-.*, BL, .*"):
        plan(tmp_path, methods=("AC",))
    with pytest.raises(
        ValueError, match=r"unknown scale 'huge': expected one of (smoke|quick|medium|small)(, \w+){3}$"
    ):
        plan(tmp_path, scale="huge")
