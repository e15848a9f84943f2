"""Agents of Stable-Baselines3, trained within the benchmark for as much CPU time as others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from acis_env.allocator import peak_memory
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import load_pretrained
from agents.benchmark.contender import Kind, Ready, Task
from agents.benchmark.extras import require
from agents.evaluation.policies import policy_segmenter
from agents.evaluation.policy_files import save_sb3
from agents.experiments.methods import Variant, env_of
from agents.experiments.plan import pick


@dataclass(frozen=True)
class SB3Agent:
    """An algorithm of Stable-Baselines3.

    Training that was interrupted begins anew, and ends with the same policy.
    """

    about: str
    settings: Any
    """A dataclass: what decides the result beside steps and seed."""
    build: Callable[[Any, Any, int, int, str], Any]
    """Makes the algorithm, given the settings, an `SB3VecEnv`, number of steps, seed and device."""
    steps: Mapping[str, int]
    """Environment steps by budget, so many that they take about the CPU time of the methods at that scale."""
    num_envs: int
    """Number of scenes side by side."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the environment."""
    kind: Kind = "agent"
    is_seeded: bool = True
    variant: Variant = "standard"

    def configuration(self, task: Task) -> dict[str, Any]:
        """Settings, environment and steps."""
        require("stable_baselines3")
        steps = pick("budget", task.budget, self.steps)
        own = {"settings": asdict(self.settings), "env": asdict(env_of(task.scene_set, task.weights, **self.env))}
        return {**own, "steps": steps, "num_envs": self.num_envs}

    def prepare(self, task: Task) -> Ready:
        """Train from the beginning; every slot is reset at the end of its episode."""
        from acis_env.adapters.sb3 import SB3VecEnv

        pretrained = load_pretrained(task.weights).to(task.device)
        recipe = env_of(task.scene_set, task.weights, **self.env)
        changes = {"weights": pretrained, "device": task.device, "autoreset_mode": "SameStep"}
        env = recipe.make(self.num_envs, **changes)
        assert isinstance(env, SegmentationVectorEnv)
        steps = self.steps[task.budget]
        cpu, wall = time.process_time(), time.monotonic()
        model = self.build(self.settings, SB3VecEnv(env), steps, task.seed, task.device)
        model.learn(steps)
        usage = {
            "cpu_seconds": time.process_time() - cpu,
            "wall_seconds": time.monotonic() - wall,
            "peak_memory": peak_memory(),
        }
        save_sb3(task.folder, model, {**env.arguments, "weights": task.weights})
        return Ready(
            recipe,
            pretrained,
            lambda core: policy_segmenter(model, core),
            "true count",
            _count_trained(model.policy),
            usage,
            {"environment_steps": model.num_timesteps},
        )


def _count_trained(policy: nn.Module) -> int:
    """Number of parameters that optimisers hold: target networks follow the others, and are not trained."""
    parts = [part for part in policy.modules() if isinstance(getattr(part, "optimizer", None), Optimizer)]
    trained = {p for part in parts for group in part.optimizer.param_groups for p in group["params"]}  # type: ignore[union-attr]
    return sum(parameter.numel() for parameter in trained)
