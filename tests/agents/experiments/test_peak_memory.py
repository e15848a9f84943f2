"""The memory of an update, counted."""

from types import SimpleNamespace

import torch
from torch import nn

from agents.experiments.peak_memory import peak_of_saved


def test_memory_counts_every_saved_storage_once_and_no_weights():
    linear = nn.Linear(10, 10)
    learner = SimpleNamespace(actor=linear, critic=nn.Identity(), decoder=nn.Identity())
    x = torch.ones(5, 10, requires_grad=True)

    def update():
        y = linear(x)  # saves x, of 200 bytes, and a weight
        (y * y).sum().backward()  # saves y, of 200 bytes, twice

    assert peak_of_saved(update, learner) == 400
