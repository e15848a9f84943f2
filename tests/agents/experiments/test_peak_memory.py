"""The memory of an update, counted."""

from dataclasses import replace

import torch
from torch import nn

from agents.experiments import peak_memory
from agents.experiments.peak_memory import peak_of_saved


def test_memory_counts_every_saved_storage_once_and_no_weights():
    linear = nn.Linear(10, 10)
    x = torch.ones(5, 10, requires_grad=True)

    def update():
        y = linear(x)  # saves x, of 200 bytes, and a weight
        (y * y).sum().backward()  # saves y, of 200 bytes, twice

    assert peak_of_saved(update, [linear, nn.Identity()]) == 400


def test_the_memory_of_the_baseline_grows_with_the_episodes_and_that_of_algorithm_1_does_not(tiny, monkeypatch):
    monkeypatch.setattr(peak_memory, "LENGTHS", (1, 3, 6))
    monkeypatch.setattr(peak_memory, "BATCH_SIZE", 2)
    few_samples = replace(peak_memory.METHODS["AC-Dice"], critic_batch_size=2)  # as many in every update of the critic
    monkeypatch.setitem(peak_memory.METHODS, "AC-Dice", few_samples)
    measured = peak_memory.measure_memory(tiny)
    assert (measured["steps"], measured["batch_size"]) == ([1, 3, 6], 2)
    used = measured["bytes"]
    assert used["BL"][0] < used["BL"][1] < used["BL"][2]
    assert used["BL-Trunc"][0] < used["BL-Trunc"][1] < used["BL-Trunc"][2]
    assert max(used["AC-Dice"]) < 1.1 * min(used["AC-Dice"])
