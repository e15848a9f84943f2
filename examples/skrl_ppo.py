"""PPO of skrl with a small MLP on the coarsest level of the State Pyramid.

python examples/skrl_ppo.py
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from skrl.agents.torch.ppo import PPO
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import nn

import acis_env  # noqa: F401 (registers the environments)
from acis_env.adapters.skrl import FinalObservations, SkrlWrapper
from agents.evaluation import compare_with_random, load_policy, save_program

TAGS = {
    "Reward / Total reward (mean)": "charts/episodic_return",
    "Episode / Total timesteps (mean)": "charts/episodic_length",
    "Info / sbd": "charts/sbd",
    "Loss / Policy loss": "losses/policy_loss",
    "Loss / Value loss": "losses/value_loss",
    "Policy / Standard deviation": "losses/action_std",
}
"""CleanRL's tags by the names that skrl gives them."""


@dataclass
class Args:
    """Train skrl's PPO on the coarse observation, and compare it with random actions."""

    exp_name: str = "skrl_ppo"
    """Name of the experiment, a part of the run's name."""
    seed: int = 1
    """Seed of the networks and of the first scenes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes."""
    num_envs: int = 32
    """Number of scenes side by side."""
    total_timesteps: int = 40_000
    """Number of steps, summed over the scenes."""
    num_steps: int = 32
    """Number of steps in each scene between two updates."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    gamma: float = 0.5
    """Discount per mask; most of a reward is owed to the last action."""
    gae_lambda: float = 0.9
    """Weight of later steps in generalised advantage estimation: 0 trusts the critic, 1 the rewards alone."""
    update_epochs: int = 10
    """Number of passes over the collected steps in an update."""
    num_minibatches: int = 4
    """Number of minibatches in a pass."""
    clip_coef: float = 0.2
    """Clipping range of the probability ratio: larger changes do not pay."""
    vf_coef: float = 0.5
    """Weight of the critic's loss."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradients; larger ones are clipped to it."""
    initial_std: float = 0.22
    """Standard deviation of the first actions; an action of 1 is three standard deviations of the latent prior."""
    hidden: int = 256
    """Width of the two layers of each network."""
    device: str = "cpu"
    """Device of environment and networks: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers of `tanh`; the last layer begins small, so that the first actions are near zero."""
    last = nn.Linear(hidden, outputs)
    nn.init.orthogonal_(last.weight, 0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last)


class Policy(GaussianMixin, Model):
    """Mean of the actions from the observation; a learnt standard deviation."""

    def __init__(self, env: SkrlWrapper, args: Args) -> None:
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        Model.__init__(self, **spaces, device=env.device)
        GaussianMixin.__init__(self)
        self.net = mlp(self.num_observations, args.hidden, self.num_actions)
        self.log_std = nn.Parameter(torch.full((self.num_actions,), args.initial_std).log())

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Model):
    """Value of a state: the rewards still to be earned."""

    def __init__(self, env: SkrlWrapper, args: Args) -> None:
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        Model.__init__(self, **spaces, device=env.device)
        DeterministicMixin.__init__(self)
        self.net = mlp(self.num_observations, args.hidden, 1)

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {}


class LoggedPPO(FinalObservations, PPO):
    """PPO that bootstraps from final observations and writes CleanRL's tags over environment steps."""

    def write_tracking_data(self, *, timestep: int, timesteps: int) -> None:
        if not hasattr(self, "first_write"):
            self.first_write = time.time(), timestep
        named = {TAGS[tag]: values for tag, values in self.tracking_data.items() if tag in TAGS}
        seconds = time.time() - self.first_write[0]
        if seconds > 0:
            named["charts/SPS"] = [(timestep - self.first_write[1]) * self.memory.num_envs / seconds]
        self.tracking_data = defaultdict(list, named)
        super().write_tracking_data(timestep=timestep * self.memory.num_envs, timesteps=timesteps)


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args.num_envs, args.total_timesteps = 8, 8 * args.num_steps
    set_seed(args.seed)
    run = args.run_dir / f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}".replace("/", "-")
    run.mkdir(parents=True)
    (run / "args.json").write_text(json.dumps(asdict(args), indent=2, default=str))

    vector_env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, obs="coarse", sampler="shuffle")
    env = SkrlWrapper(vector_env, seed=args.seed)
    policy = Policy(env, args)
    agent = LoggedPPO(
        models={"policy": policy, "value": Value(env, args)},
        memory=RandomMemory(memory_size=args.num_steps, num_envs=args.num_envs, device=args.device),
        observation_space=env.observation_space,
        action_space=env.action_space,
        device=args.device,
        cfg={
            "rollouts": args.num_steps,
            "learning_epochs": args.update_epochs,
            "mini_batches": args.num_minibatches,
            "discount_factor": args.gamma,
            "gae_lambda": args.gae_lambda,
            "learning_rate": args.learning_rate,
            "ratio_clip": args.clip_coef,
            "value_clip": 0.0,
            "value_loss_scale": args.vf_coef,
            "grad_norm_clip": args.max_grad_norm,
            "time_limit_bootstrap": True,
            "experiment": {
                "directory": str(run.parent),
                "experiment_name": run.name,
                "write_interval": args.num_steps,
                "checkpoint_interval": 0,
            },
        },
    )
    start = time.time()
    timesteps = args.total_timesteps // args.num_envs
    SequentialTrainer(env=env, agents=agent, cfg={"timesteps": timesteps, "headless": True}).train()
    seconds = time.time() - start

    observations, _ = env.reset()
    save_program(run, nn.Sequential(policy.net, nn.Hardtanh()), vector_env.unwrapped.arguments, observations)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(*load_policy(run, args.device, trust=True), run, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
