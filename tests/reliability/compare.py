"""Whether two files or runs are the same, down to the last bit."""

import torch

from agents.models.checkpoints import load_checkpoint


def differences(one, other, path="checkpoint"):
    """Where two checkpoints differ in a bit, or in anything else."""
    if type(one) is not type(other):
        return [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [path]
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [path]
        return [
            found for i, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{path}/{i}")
        ]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    return [] if one == other else [path]


def same_runs(one, other):
    """Whether two folders hold the same run, finished: checkpoint, agents, configuration and scores."""
    binary = all(
        differences(load_checkpoint(one / name), load_checkpoint(other / name)) == []
        for name in ("checkpoint.pt", "agent.pt", "initial.pt")
    )
    return binary and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in ("config.json", "history.json")
    )


def check_same_end(one, other, num_iterations=12, evaluated=(5, 10, 12)):
    """Both runs have left the same, down to the last bit."""
    first, second = (load_checkpoint(folder / "checkpoint.pt") for folder in (one, other))
    assert first["iteration"] == num_iterations
    assert tuple(scores["iteration"] for scores in first["history"]) == evaluated
    assert {"actor", "actor_optimizer", "termination_optimizer"} == first["learner"].keys()
    assert differences(first, second) == []
    for name in ("config.json", "history.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    for name in ("agent.pt", "initial.pt"):
        assert differences(load_checkpoint(one / name), load_checkpoint(other / name), name) == []
