"""PPO of rsl_rl with a small MLP on the coarsest level of the State Pyramid.

python examples/rsl_rl_ppo.py
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from rsl_rl.runners import OnPolicyRunner
from rsl_rl.utils.log_writer import LogWriter
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import acis_env  # noqa: F401 (registers the environments)
from acis_env.adapters.rsl_rl import RslRlVecEnv
from agents.evaluation import compare_with_random, load_policy, save_program

TAGS = {
    "Train/mean_reward": "charts/episodic_return",
    "Train/mean_episode_length": "charts/episodic_length",
    "Perf/total_fps": "charts/SPS",
    "/episode/sbd": "charts/sbd",
    "Loss/surrogate": "losses/policy_loss",
    "Loss/value": "losses/value_loss",
    "Loss/entropy": "losses/entropy",
    "Policy/mean_std": "losses/action_std",
}
"""CleanRL's tags by the names that rsl_rl gives them."""


@dataclass
class Args:
    """Train rsl_rl's PPO on the coarse observation, and compare it with random actions."""

    exp_name: str = "rsl_rl_ppo"
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
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
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


class TensorBoard(LogWriter):
    """Writes CleanRL's tags over environment steps."""

    def __init__(self, log_dir: str, steps_per_iteration: int) -> None:
        self.writer, self.steps_per_iteration = SummaryWriter(log_dir), steps_per_iteration

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        if tag in TAGS:
            self.writer.add_scalar(TAGS[tag], scalar_value, (global_step + 1) * self.steps_per_iteration)

    def stop(self) -> None:
        self.writer.close()


def runner_config(args: Args) -> dict[str, Any]:
    """The settings in the words of rsl_rl."""
    network = {
        "class_name": "MLPModel",
        "hidden_dims": [args.hidden, args.hidden],
        "activation": "tanh",
    }
    return {
        "num_steps_per_env": args.num_steps,
        "save_interval": 1_000_000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {
            **network,
            "distribution_cfg": {
                "class_name": "GaussianDistribution",
                "init_std": args.initial_std,
                "std_type": "log",
            },
        },
        "critic": network,
        "algorithm": {
            "class_name": "acis_env.adapters.rsl_rl:FinalObservationPPO",
            "learning_rate": args.learning_rate,
            "schedule": "fixed",
            "gamma": args.gamma,
            "lam": args.gae_lambda,
            "num_learning_epochs": args.update_epochs,
            "num_mini_batches": args.num_minibatches,
            "clip_param": args.clip_coef,
            "use_clipped_value_loss": False,
            "entropy_coef": args.ent_coef,
            "value_loss_coef": args.vf_coef,
            "max_grad_norm": args.max_grad_norm,
        },
        "logger": {"class_name": TensorBoard, "steps_per_iteration": args.num_envs * args.num_steps},
    }


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args.num_envs, args.total_timesteps = 8, 8 * args.num_steps
    torch.manual_seed(args.seed)
    run = args.run_dir / f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}".replace("/", "-")
    run.mkdir(parents=True)
    (run / "args.json").write_text(json.dumps(asdict(args), indent=2, default=str))

    vector_env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, obs="coarse", sampler="shuffle")
    env = RslRlVecEnv(vector_env, seed=args.seed)
    runner = OnPolicyRunner(env, runner_config(args), log_dir=str(run), device=args.device)
    start = time.time()
    runner.learn(max(1, args.total_timesteps // (args.num_envs * args.num_steps)))
    seconds = time.time() - start

    network = nn.Sequential(runner.get_inference_policy().as_jit(), nn.Hardtanh())
    save_program(run, network, env.cfg, env.get_observations()["policy"])
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(*load_policy(run, args.device, trust=True), run, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
