"""The networks of a set that brings none."""

from dataclasses import replace

import torch

from acis_env.weights import load_pretrained
from agents.experiments.cell import Cell
from agents.experiments.jobs import stages
from agents.experiments.methods import METHODS, Pretraining, Scale, SceneSet, cell_config


def test_the_networks_of_a_new_set_are_made_and_share_their_context(tiny_world, tmp_path, plants_options):
    template = tiny_world.scene_sets["plants"].weights["standard"]
    plants = SceneSet("plants", "leaves", plants_options, plants_options)
    config = cell_config(
        plants, METHODS["AC-Dice-NoSP"], Scale("any", {"actor-critic": 3}), str(tmp_path / "weights/x-np"), 0
    )
    cell = Cell(tmp_path / "plants/AC/seed-0", plants, "AC", "", "no-pyramid", config, "any")
    short = replace(Pretraining().context, iterations=1, batch_size=2)
    how = Pretraining(short, short, template)
    first, second, _, cells = stages([cell])
    assert cells == [cell]
    for job in (*first, *second):
        replace(job, pretraining=how).run()
    standard, other = (load_pretrained(job.folder) for job in (*first, *second))
    assert (standard.autoencoder.config.state_pyramid, other.autoencoder.config.state_pyramid) == (True, False)
    for a, b in zip(standard.context_network.parameters(), other.context_network.parameters(), strict=True):
        assert torch.equal(a, b)
