"""One agent, trained by two processes that torchrun starts."""

import json

import torch

from agents.benchmark.cell import Cell
from agents.experiments.jobs import run_job
from agents.models.agent import Agent
from agents.training.trainer import Trainer


def test_a_cell_is_trained_by_two_processes_and_evaluated_by_one(task_of, tiny_agent):
    task = task_of("tiny", processes=2)
    cell = Cell(task, "tiny", tiny_agent)
    run_job(cell)
    result = json.loads(cell.result.read_text())
    assert result["configuration"]["processes"] == 2
    assert result["facts"]["updates"] == 3
    agent = Agent.load(task.folder / "together")
    state = torch.load(task.folder / "together" / "checkpoint.pt", weights_only=True)
    assert len(state["environment"]) == 2  # one of each process
    assert state["iteration"] == 3
    alone = Trainer(tiny_agent.train_config(task), task.folder / "alone").run()
    assert any(
        not torch.equal(one, two) for one, two in zip(alone.actor.parameters(), agent.actor.parameters(), strict=True)
    )
