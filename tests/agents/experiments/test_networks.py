"""The networks of a set that brings none."""

import json
from dataclasses import replace

import torch

from acis_env.weights import load_pretrained
from agents.experiments.cell import Cell
from agents.experiments.jobs import network_stages
from agents.experiments.methods import METHODS, Pretraining, Scale, SceneSet, cell_config
from agents.experiments.networks import Networks
from agents.experiments.results import differences


def test_the_networks_of_a_set_have_its_size_and_actions_of_its_length(tmp_path):
    short = replace(Pretraining().context, iterations=1, batch_size=2)
    how = Pretraining(short, short)
    two = {"length": 2, "max_cars": 2}
    street = SceneSet("street", "dataset:cars", two, two, size=(32, 64), latent_size=6, is_upright=True)
    job = Networks(tmp_path / "weights", street, "standard", None, how)
    job.run()
    made = load_pretrained(job.folder)
    assert (made.size, made.autoencoder.config.latent_size) == ((32, 64), 6)
    for network in ("context", "autoencoder"):
        training = json.loads((job.folder / f"{network}.json").read_text())["training"]
        assert training["augmentation"]["quarter_turns"] is False
    other = replace(job, scene_set=replace(street, size=(64, 64)))
    assert differences(job.configuration, other.configuration) == ["size.0 is 32 there and 64 here"]


def test_the_networks_of_a_new_set_are_made_and_share_their_context(tmp_path, plants_options):
    plants = SceneSet("plants", "leaves", plants_options, plants_options, size=(32, 32), latent_size=4)
    config = cell_config(
        plants, METHODS["AC-Dice-NoSP"], Scale("any", {"actor-critic": 3}), str(tmp_path / "weights/x-np"), 0
    )
    cell = Cell(tmp_path / "plants/AC/seed-0", plants, "AC", "", "no-pyramid", config, "any")
    short = replace(Pretraining().context, iterations=1, batch_size=2)
    how = Pretraining(short, short)
    first, second = network_stages([cell])
    for job in (*first, *second):
        replace(job, pretraining=how).run()
    standard, other = (load_pretrained(job.folder) for job in (*first, *second))
    assert (standard.autoencoder.config.state_pyramid, other.autoencoder.config.state_pyramid) == (True, False)
    for a, b in zip(standard.context_network.parameters(), other.context_network.parameters(), strict=True):
        assert torch.equal(a, b)
