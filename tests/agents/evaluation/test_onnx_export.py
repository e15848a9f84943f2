"""An exported agent does the same as in torch, and so does the program in the documentation, which has no torch."""

import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agents.commands.main import main
from agents.evaluation import onnx_export
from agents.evaluation.onnx_export import CARD, export_onnx
from agents.models.actor import Actor
from agents.models.agent import Agent
from agents.models.composition import DEFAULT, Composition
from agents.models.outcome_critic import OutcomeCritic, OutcomeCriticConfig
from agents.models.outcomes import OutcomeChoice, OutcomeChoiceConfig
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig
from agents.models.selection import ActionSelection, SelectionConfig

PAGE = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
KINDS = {"plain": (False, False), "refined and chosen": (True, True)}
"""Agents by whether masks are refined and whether a critic chooses; each takes seconds to export."""


def make_agent(networks, learner, refine, chooses):
    """An agent with random weights whose actions depend on mask and memory."""
    sizes = networks.autoencoder.config
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        actor = Actor(sizes, learner.actor)
        actor.start_from(networks.autoencoder.encoder)
        for parameter in (*actor.head.parameters(), *actor.lstm.parameters()):
            parameter.normal_(0, 0.5)
        actor.termination[-1].bias.fill_(5)
        critic = RankingCritic(RankingCriticConfig(hidden=(8, 8)))
    decoder = networks.autoencoder.frozen_decoder(refine)
    selection = ActionSelection(critic, decoder, SelectionConfig(number=2, rounds=2)) if chooses else None
    return Agent(actor, networks, max_steps=6, refine=refine, selection=selection)


@pytest.fixture(scope="module", params=KINDS)
def exported(request, make_tiny, config, tmp_path_factory):
    """An agent, and the folder of its export."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    agent = make_agent(make_tiny(), config.learner, *KINDS[request.param])
    folder = tmp_path_factory.mktemp("run")
    agent.save(folder / "agent.pt")
    main(["export", str(folder), "--out", str(folder / "exported")])
    return agent, folder


@pytest.fixture
def pictures(leaves):
    """Three plants, `[3, 3, 32, 32]` uint8."""
    return np.stack([leaves.scene(i).image for i in (0, 1, 2)])


def play(folder, images, steps):
    """What the networks of an export write in every step, `[T, B, ...]` by name."""
    runtime = pytest.importorskip("onnxruntime")
    card = json.loads((folder / CARD).read_text())
    names = ("context", "condition", "actor", "decoder")
    sessions = {name: runtime.InferenceSession(str(folder / f"{name}.onnx")) for name in names}
    known = {"images": images}

    def run(name):
        given = {tensor.name: known[tensor.name] for tensor in sessions[name].get_inputs()}
        outputs = [tensor.name for tensor in sessions[name].get_outputs()]
        known.update(zip(outputs, sessions[name].run(None, given), strict=True))

    run("context")
    run("condition")
    known["mask"] = np.zeros((len(images), 1, *card["size"]), np.float32)
    known["memory"] = np.zeros((len(images), *card["memory_size"]), np.float32)
    found = {"context": [known["context"]], "predicted_mask": [], "continue_logit": [], "next_memory": []}
    for _ in range(steps):
        run("actor")
        run("decoder")
        for name in list(found)[1:]:
            found[name].append(known[name])
        known["mask"] = np.maximum(known["mask"], known["predicted_mask"])
        known["memory"] = known["next_memory"]
    return {name: np.stack(values) for name, values in found.items()}


def test_masks_of_whole_episodes_are_those_of_torch(exported, pictures):
    agent, folder = exported
    state = agent.source.begin_images(torch.from_numpy(pictures), 6)
    expected = agent.predict_masks(state, min_steps=6).masks.numpy()
    found = play(folder / "exported", pictures, 6)
    assert np.abs(found["context"][0] - state.context.numpy()).max() < 1e-4
    assert np.abs(found["predicted_mask"][:, :, 0].swapaxes(0, 1) - expected).max() < 1e-4
    assert np.abs(expected[:, 1:] - expected[:, :1]).max() > 0.01  # steps differ, or little would be compared


def test_the_termination_unit_and_the_memory_are_those_of_torch(exported, pictures):
    agent, folder = exported
    found = play(folder / "exported", pictures, 4)
    state = agent.source.begin_images(torch.from_numpy(pictures), 6)
    shares, memory = agent.actor.condition(state.context), agent.actor.initial_memory(3)
    mask = torch.zeros(3, 1, 32, 32)
    for t in range(4):
        with torch.no_grad():
            out = agent.actor(shares, mask, memory)
        assert np.abs(found["continue_logit"][t] - out.continue_logit.numpy()).max() < 1e-4
        assert np.abs(found["next_memory"][t] - out.memory.numpy()).max() < 1e-4
        mask, memory = torch.maximum(mask, torch.from_numpy(found["predicted_mask"][t])), out.memory


@pytest.mark.parametrize(
    ("stops", "rule"),
    [(False, DEFAULT), (True, DEFAULT), (True, Composition(0.5, "first-predicted")), (True, Composition(0.5, fill=5))],
)
def test_the_program_in_the_documentation_segments_a_picture_without_torch(
    exported, tmp_path, monkeypatch, stops, rule
):
    agent, folder = exported
    picture = np.random.default_rng(0).integers(0, 255, (6, 5, 3), np.uint8).repeat(9, 0).repeat(8, 1)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    for path in (folder / "exported").iterdir():
        shutil.copy(path, tmp_path)
    most = 2 if stops else 6
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "max_steps": most, **asdict(rule)}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    program = PROGRAM.replace('"exported"', '"."')
    found = {"__name__": "program"}
    exec(compile(program, "export.md", "exec"), found)
    monkeypatch.undo()
    monkeypatch.setattr(agent, "composition", rule)
    expected = agent.segment(picture, most, soft=True)
    assert len(found["masks"]) == len(expected.masks) == most
    assert expected.label_map.max() > 0
    labels = np.asarray(Image.open(tmp_path / "labels.png"))
    assert (labels == expected.label_map).mean() > 0.99
    if rule != DEFAULT:
        return
    # Where it is another label, its probability is as high: masks here are often 1 to the last digit.
    worth = np.concatenate([np.full((1, *labels.shape), agent.composition.threshold, np.float32), expected.masks])
    chosen, best = (np.take_along_axis(worth, own[None].astype(int), 0) for own in (labels, expected.label_map))
    assert np.abs(chosen - best).max() < 1e-4


def test_the_card_says_what_the_loop_needs(exported):
    agent, folder = exported
    card = json.loads((folder / "exported" / CARD).read_text())
    assert (card["size"], card["latent_size"], card["memory_size"]) == ([32, 32], 4, [4, 6])
    assert (card["max_steps"], card["threshold"], card["preprocessing"]) == (6, 0.5, "squeeze")
    assert (card["overlaps"], card["fill"]) == ("most-probable", 0)
    assert (card["refine"], card["candidates"]) == (agent.refine, 3 if agent.selection else 1)


def test_a_critic_of_outcomes_stays_behind_and_the_log_says_so(agent, tmp_path, monkeypatch, caplog):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx_export, "_models", lambda agent: iter(()))
    export_onnx(agent, tmp_path / "plain")
    assert not caplog.messages
    critic = OutcomeCritic(OutcomeCriticConfig(max_count=3, widths=(4, 6), hidden=(8, 8)))
    agent.outcomes = OutcomeChoice(critic, agent.decoder, OutcomeChoiceConfig(episodes=3))
    export_onnx(agent, tmp_path / "choosing")
    assert "where an episode stops (episodes: 3), and it is not exported" in caplog.text


def test_a_folder_that_holds_something_is_refused_before_any_work(agent, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(onnx_export, "_models", lambda agent: pytest.fail("worked"))
    with pytest.raises(ValueError, match="must be a new or an empty folder"):
        export_onnx(agent, tmp_path)
    with pytest.raises(ValueError, match=r"notes\.txt must be a new or an empty folder"):
        export_onnx(agent, tmp_path / "notes.txt")


def test_an_export_that_fails_leaves_nothing(agent, tmp_path, monkeypatch):
    def fail(agent):
        yield "context", b"content"
        raise ValueError("no")

    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx_export, "_models", fail)
    with pytest.raises(ValueError, match="no"):
        export_onnx(agent, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_missing_library_is_named_with_what_installs_it(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LIBRARIES", ("json", "onnx_of_another_planet"))
    with pytest.raises(ValueError, match=r'needs onnx_of_another_planet: pip install "acis-env\[onnx\]"'):
        export_onnx(agent, tmp_path / "exported")
