"""Agents that are shared: the folder, its page, and what goes to the Hub, which is never reached here."""

import json
import sys

import numpy as np
import pytest
import torch

from acis_env.files import write_json
from agents.models.agent import Agent
from agents.models.agent_card import AgentCard, read_card

FILES = {"agent.safetensors", "card.json", "README.md"}


def same_tensors(one, other):
    networks = ("critic", "actor", "context", "autoencoder")
    pairs = [(one[name], other[name]) for name in networks]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


def write_run(folder, agent):
    """The files of a run that a card is made of."""
    folder.mkdir()
    agent.save(folder / "agent.pt")
    algorithm = {"kind": "baseline"}
    stages = [{"name": "main", "algorithm": algorithm, "iterations": 7}]
    kwargs = {"scenes": "/home/somebody/private/discs"}
    config = {"seed": 5, "eval_scenes": 3, "env": {"id": "ACIS/Scenes-v0", "kwargs": kwargs}, "stages": stages}
    write_json(folder / "config.json", config)
    write_json(folder / "commands.json", {"commands": ["acis train quick --seed 5"]})
    write_json(folder / "history.json", {"history": [{"iteration": 7, "sbd": 0.25, "abs_dic": 2.0}]})
    return folder


def write_report(folder, **about):
    mean = {"sbd": 0.812, "abs_dic": 0.5, "sbd_gt_stop": 0.9, "dice_star": 0.7, "fbd": 0.1}
    rows = {"agent": {"mean": mean}, "reconstruction": {"mean": {"sbd": 0.95}}}
    folder.mkdir()
    write_json(folder / "evaluation.json", {"about": about, "num_scenes": 40, "rows": rows})


def test_a_shared_folder_holds_the_same_agent_and_no_pickle(agent, tmp_path):
    agent.save_pretrained(tmp_path / "shared")
    assert {path.name for path in (tmp_path / "shared").iterdir()} == FILES
    loaded = Agent.from_pretrained(tmp_path / "shared")
    assert same_tensors(agent.state_dict(), loaded.state_dict())
    assert loaded.state_dict()["config"] == agent.state_dict()["config"]


def test_a_bundled_agent_survives_being_shared_with_its_critic_and_its_card(tmp_path):
    agent = Agent.load("leaves-64")
    agent.save_pretrained(tmp_path / "shared", limits="Not for cats.")
    loaded = Agent.from_pretrained(tmp_path / "shared")
    assert loaded.selection is not None
    assert same_tensors(agent.state_dict(), loaded.state_dict())
    page = (tmp_path / "shared" / "README.md").read_text()
    assert page.startswith("---\nlicense: apache-2.0\n")
    assert "| leaves | test | 200 | 0.921 | 0.460 | 0.924 | 0.920 |" in page
    assert "`OMP_NUM_THREADS=1 acis quickstart` (seed 0)" in page
    assert "- Not for cats.\n" in page
    loaded.save_pretrained(tmp_path / "again")
    assert read_card(tmp_path / "again") == read_card(tmp_path / "shared")


def test_the_page_of_a_run_has_its_command_seed_and_scores_and_no_path(agent, tmp_path):
    run = write_run(tmp_path / "run", agent)
    write_report(run / "evaluation-test", scenes="/home/somebody/private/discs", split="test")
    Agent.load(run).save_pretrained(tmp_path / "shared", licence="cc-by-4.0")
    page = (tmp_path / "shared" / "README.md").read_text()
    assert "| discs | test | 40 | 0.812 | 0.500 | 0.900 | 0.700 | 0.950 |" in page
    assert "acis train quick --seed 5" in page
    assert "- Seed: 5\n" in page
    assert "main (baseline, 7 iterations)" in page
    assert "license: cc-by-4.0" in page
    assert 'Agent.from_pretrained("shared")' in page
    assert "somebody" not in page + (tmp_path / "shared" / "card.json").read_text()


def test_a_run_that_nobody_has_evaluated_shows_its_last_validation_scores(agent, tmp_path):
    (scores,) = read_card(write_run(tmp_path / "run", agent)).scores
    assert (scores.split, scores.num_scenes, scores.means) == ("val, while training", 3, {"sbd": 0.25, "abs_dic": 2.0})


def test_another_agent_in_the_folder_of_a_run_does_not_take_its_scores(agent, tmp_path):
    run = write_run(tmp_path / "run", agent)
    agent.save(run / "initial.pt")
    Agent.load(run / "initial.pt").save_pretrained(tmp_path / "shared")
    assert read_card(tmp_path / "shared") == AgentCard()
    assert "Not measured." in (tmp_path / "shared" / "README.md").read_text()


def test_a_licence_that_would_break_the_header_is_refused(agent, tmp_path):
    with pytest.raises(ValueError, match=r"licence must be an identifier such as .*, got 'mine: all'"):
        agent.save_pretrained(tmp_path / "shared", licence="mine: all")


def test_a_flipped_bit_is_noticed(agent, tmp_path):
    agent.save_pretrained(tmp_path)
    content = bytearray((tmp_path / "agent.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "agent.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"agent\.safetensors"):
        Agent.from_pretrained(tmp_path)


def test_weights_that_are_no_agent_are_refused_by_their_format(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "agent.safetensors")
    with pytest.raises(ValueError, match=r"agent\.safetensors: expected a JSON object"):
        Agent.from_pretrained(tmp_path)
    save_file({"x": np.zeros(3)}, tmp_path / "agent.safetensors", {"config": "{}"})
    with pytest.raises(ValueError, match=r"agent\.safetensors: expected the format 'acis-agent-\d+', got None"):
        Agent.from_pretrained(tmp_path)


def test_a_folder_without_a_shared_agent_is_an_error_that_names_the_other_way(agent, tmp_path):
    run = write_run(tmp_path / "run", agent)
    with pytest.raises(FileNotFoundError, match=r"agent\.safetensors: no such file; .* `Agent.load` reads the folder"):
        Agent.from_pretrained(run)


def test_exactly_the_three_files_are_uploaded(agent, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    calls = {}

    def create_repo(self, name, **options):
        calls["repo"] = (name, options, self.token)
        return hub.RepoUrl(f"https://huggingface.co/{name}")

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        files = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        calls["upload"] = (repo_id, files, set(allow_patterns), commit_message)

    monkeypatch.setattr(hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    address = agent.push_to_hub("me/discs", licence="cc0-1.0", private=True, token="hf_x", message="First")
    assert address == "https://huggingface.co/me/discs"
    assert calls["repo"] == ("me/discs", {"private": True, "exist_ok": True}, "hf_x")
    repo_id, files, patterns, message = calls["upload"]
    assert (repo_id, message) == ("me/discs", "First")
    assert files.keys() == patterns == FILES
    assert b'Agent.from_pretrained("me/discs")' in files["README.md"]
    assert json.loads(files["card.json"])["card"]["licence"] == "cc0-1.0"


def test_a_repository_is_read_from_the_copy_that_the_library_keeps(agent, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    agent.save_pretrained(tmp_path / "copy")
    calls = []
    monkeypatch.setattr(
        hub, "snapshot_download", lambda name, **options: calls.append((name, options)) or str(tmp_path / "copy")
    )
    loaded = Agent.from_pretrained("me/discs", revision="v1")
    assert same_tensors(agent.state_dict(), loaded.state_dict())
    ((name, options),) = calls
    assert (name, options["revision"], set(options["allow_patterns"])) == ("me/discs", "v1", FILES)


def test_without_a_network_an_unknown_repository_is_one_line(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"^me/nothing: no such folder, and not found on .* Hub: ") as caught:
        Agent.from_pretrained("me/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^a b: no such folder, and not found on .* Hub: Repo id must"):
        Agent.from_pretrained("a b")


def test_an_upload_that_nobody_answers_is_an_error_in_one_line(agent, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"^me/x: cannot be uploaded to the Hugging Face Hub: ") as caught:
        agent.push_to_hub("me/x", token="hf_x")
    assert "\n" not in str(caught.value)


def test_without_the_library_the_error_names_the_extra(agent, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"^me/x: no such folder, .*: pip install 'acis-env\[hub\]'$"):
        Agent.from_pretrained("me/x")
    with pytest.raises(ValueError, match=r"^me/x: cannot be uploaded .*: pip install 'acis-env\[hub\]'$"):
        agent.push_to_hub("me/x")
