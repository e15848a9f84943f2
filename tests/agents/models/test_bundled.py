"""Agents that come with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.algorithms.base import core_of
from agents.environment import EnvConfig
from agents.evaluation import agent_segmenter, evaluate
from agents.models import bundled
from agents.models.agent import Agent
from agents.models.bundled import BUNDLED, bundled_agents, find_agent

NUCLEI = Path(__file__).parents[4] / "shared" / "data" / "bbbc038"
SCENES = {"leaves": "dataset:leaves", "nuclei": str(NUCLEI)}
"""Where the scenes of an agent are, by the first word of its name."""


@pytest.mark.parametrize("name", bundled_agents())
def test_a_bundled_agent_finds_what_its_card_says(name):
    card = json.loads((BUNDLED / name / "card.json").read_text())
    scenes = SCENES[name.split("-")[0]]
    if scenes == str(NUCLEI) and not NUCLEI.is_dir():
        pytest.skip("needs the nuclei in shared/")
    agent = Agent.load(name)
    assert card["name"] == name
    recipe = EnvConfig("ACIS/Scenes-v0").having(
        scenes=scenes,
        scene_options=card["val_options"] or card["scene_options"],
        weights=agent.pretrained,
        refine=agent.refine,
    )
    source = core_of(recipe.make_evaluation(card["split"])).source
    found = evaluate("agent", agent_segmenter(agent), source, agent.composition, num_scenes=3)
    assert np.allclose([scene["sbd"] for scene in found.scenes], card["first_scenes"][:3], atol=0.03)


@pytest.mark.parametrize("name", bundled_agents())
def test_a_bundled_agent_is_small_and_has_a_card_for_readers(name):
    assert (BUNDLED / name / "agent.pt").stat().st_size < 8 * 2**20
    assert (BUNDLED / name / "CARD.md").read_text().startswith(f"# {name}\n")


def test_paths_come_before_names_and_what_is_neither_is_told_what_there_is(tmp_path, monkeypatch):
    for name in ("discs-64", "leaves-64"):
        (tmp_path / "agents" / name).mkdir(parents=True)
        (tmp_path / "agents" / name / "agent.pt").touch()
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "agents")
    monkeypatch.chdir(tmp_path)
    assert find_agent("leaves-64") == tmp_path / "agents" / "leaves-64" / "agent.pt"
    (tmp_path / "leaves-64").mkdir()
    assert find_agent("leaves-64") == Path("leaves-64/agent.pt")
    assert find_agent(tmp_path / "agents" / "discs-64") == tmp_path / "agents" / "discs-64" / "agent.pt"
    with pytest.raises(FileNotFoundError, match=r"leavs-64: no such file; .* with the package: leaves-64, discs-64"):
        find_agent("leavs-64")


def test_weights_are_stored_in_half_of_the_space_and_hardly_change(agent, begin, tiny, tmp_path):
    state = begin(tiny, [1, 2])
    agent.save(tmp_path / "whole.pt")
    agent.save(tmp_path / "half.pt", half=True)
    assert (tmp_path / "half.pt").stat().st_size < 0.7 * (tmp_path / "whole.pt").stat().st_size
    loaded = Agent.load(tmp_path / "half.pt")
    assert loaded.actor.head[0].weight.dtype == torch.float32
    masks = [a.predict_masks(state, min_steps=2).masks for a in (agent, loaded)]
    torch.testing.assert_close(*masks, atol=0.05, rtol=0)
