"""Soft Actor-Critic (Haarnoja et al., 2018) in one file, with the five decisions that it needs to learn here.

Each decision can be switched off by a flag of its name; docs/tutorials/sac.md says what happens then.

python examples/cleanrl_sac.py --seed 1
python examples/cleanrl_sac.py --seed 1 --no-product-critic
"""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from acis_env import SegmentationVectorEnv
from acis_env.files import write_json
from acis_env.rendering import plot_curves
from agents.evaluation import compare_with_random, evaluate, load_policy, reconstruction_segmenter, save_program
from agents.models.product_critic import ProductCritic

DECISIONS = ("product_critic", "normalise", "few_updates", "short_sight", "low_temperature")
"""Options that make Soft Actor-Critic learn here; without all of them it is that of the textbook."""


@dataclass(frozen=True)
class Args:
    """Train SAC with small networks on the coarse observation; compare it with random actions and with the bound."""

    seed: int = 1
    """Seed of the networks, the actions and the scenes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes and weights."""
    total_timesteps: int = 25_000
    """Number of steps, summed over the slots."""
    num_envs: int = 64
    """Number of scenes side by side."""
    action_scale: float = 1.5
    """Number of standard deviations of the latent prior that an action of 1 stands for."""
    product_critic: bool = True
    """Critics multiply features of the state with features of the action; otherwise they read both side by side."""
    normalise: bool = True
    """Networks read observations with zero mean and unit variance; otherwise as they are, in [0, 1]."""
    few_updates: bool = True
    """4 updates after every step of all slots, 16 passes over each transition; otherwise 64, one per transition."""
    short_sight: bool = True
    """The discount per mask is 0.5, since most of a reward is owed to the last action; otherwise 0.99."""
    low_temperature: bool = True
    """The weight of the entropy is 0.01; otherwise it is tuned from 1 on, towards minus the length of an action."""
    learning_starts: int = 5_000
    """Number of steps with random actions before the first update."""
    buffer_size: int = 100_000
    """Number of transitions that the replay buffer keeps."""
    batch_size: int = 256
    """Number of transitions in an update."""
    learning_rate: float = 1e-3
    """Learning rate of the critics, and of the temperature where it is tuned."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    tau: float = 0.02
    """Share of the new weights in the target networks, per update."""
    device: str = "cpu"
    """Device of environment and networks: "cpu" or "cuda"."""
    quick: bool = False
    """Take some seconds, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""

    @property
    def name(self) -> str:
        """Name of the experiment, which says what is switched off."""
        off = [f"no-{decision.replace('_', '-')}" for decision in DECISIONS if not getattr(self, decision)]
        return "-".join(["cleanrl_sac", *off])


class Replay:
    """The last transitions, as tensors on the device."""

    def __init__(self, size: int, observation_size: int, action_size: int, device: str) -> None:
        widths = (observation_size, action_size, 1, observation_size, 1)
        self.columns = [torch.zeros(size, width, device=device) for width in widths]
        self.size, self.position, self.count = size, 0, 0

    def add(self, *batch: Tensor) -> None:
        """Keep observations, actions, rewards, next observations and terminations, `[B, ...]` each."""
        index = (torch.arange(len(batch[0])) + self.position) % self.size
        for column, values in zip(self.columns, batch, strict=True):
            column[index] = values.float().view(len(index), -1)
        self.position = int(index[-1] + 1) % self.size
        self.count = min(self.count + len(index), self.size)

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """Random transitions, in the order of `add`."""
        index = torch.randint(self.count, (batch_size,))
        return tuple(column[index] for column in self.columns)


class Normalise(nn.Module):
    """Centre and scale observations `[B, o]` by what `fit` saw; without it, leave them as they are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, observations: Tensor) -> None:
        """Take mean and deviation of `[n, o]`."""
        self.mean.copy_(observations.mean(0))
        self.scale.copy_(1 / (observations.std(0) + 0.01))

    def forward(self, observations: Tensor) -> Tensor:
        return (observations - self.mean) * self.scale


class SideBySideCritic(nn.Module):
    """The critic of the textbook: one perceptron on state and action."""

    def __init__(self, observation_size: int, action_size: int, width: int = 256) -> None:
        super().__init__()
        self.value = nn.Sequential(
            nn.Linear(observation_size + action_size, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.value(torch.cat([observation, action], dim=1))


class Actor(nn.Module):
    """Gaussian actions squashed to [-1, 1]; what is saved is their mean."""

    def __init__(self, observation_size: int, action_size: int, width: int = 256) -> None:
        super().__init__()
        self.normalise = Normalise(observation_size)
        last = nn.Linear(width, 2 * action_size)
        nn.init.uniform_(last.weight, -3e-3, 3e-3)
        self.body = nn.Sequential(
            nn.Linear(observation_size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last
        )

    def forward(self, observation: Tensor) -> Tensor:
        mean, _ = self.body(self.normalise(observation)).chunk(2, dim=1)
        return mean.tanh()

    def draw(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Random actions `[B, a]` and the logarithm of their density, `[B, 1]`."""
        mean, spread = self.body(self.normalise(observation)).chunk(2, dim=1)
        gaussian = torch.distributions.Normal(mean, spread.clamp(-5, 2).exp())
        before_tanh = gaussian.rsample()
        slope = 2 * (math.log(2) - before_tanh - F.softplus(-2 * before_tanh))  # log of 1 - tanh^2
        return before_tanh.tanh(), (gaussian.log_prob(before_tanh) - slope).sum(1, keepdim=True)


def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move the weights of `target` towards those of `source`."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), source.parameters(), strict=True):
            old.lerp_(new, tau)


def train(args: Args, env: SegmentationVectorEnv, folder: Path) -> tuple[Actor, dict[str, list[float]]]:
    """Train; the actor, and the mean return of the episodes that ended in every twenty steps of all slots."""
    writer = SummaryWriter(str(folder))
    sizes = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    actor = Actor(*sizes).to(args.device)
    make_critic = ProductCritic if args.product_critic else SideBySideCritic
    critics = nn.ModuleList(make_critic(*sizes) for _ in range(2)).to(args.device)
    target_critics = deepcopy(critics).eval()  # without dropout
    log_temperature = torch.tensor(math.log(0.01) if args.low_temperature else 0.0, device=args.device)
    log_temperature.requires_grad_(not args.low_temperature)
    actor_optimizer = torch.optim.Adam(actor.parameters(), args.actor_learning_rate)
    critic_optimizer = torch.optim.AdamW(critics.parameters(), args.learning_rate)
    temperature_optimizer = torch.optim.Adam([log_temperature], args.learning_rate)
    replay = Replay(args.buffer_size, *sizes, args.device)
    gamma = 0.5 if args.short_sight else 0.99
    updates_per_step = 4 if args.few_updates else args.num_envs
    curve: dict[str, list[float]] = {"step": [], "return": []}

    def values(networks: nn.ModuleList, observation: Tensor, action: Tensor) -> Tensor:
        """Values `[2, B, 1]` by both critics."""
        return torch.stack([network(actor.normalise(observation), action) for network in networks])

    def update() -> dict[str, float]:
        """One step of critics, actor and temperature; the losses."""
        o, a, r, o_next, is_terminal = replay.sample(args.batch_size)
        temperature = log_temperature.detach().exp()
        with torch.no_grad():
            a_next, log_density = actor.draw(o_next)
            q_next = values(target_critics, o_next, a_next).amin(0) - temperature * log_density
            target = r + gamma * (1 - is_terminal) * q_next
        critic_loss = 2 * F.mse_loss(values(critics, o, a), target.expand(2, -1, -1))
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()

        drawn, log_density = actor.draw(o)
        actor_loss = (temperature * log_density - values(critics, o, drawn).amin(0)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        if not args.low_temperature:
            temperature_loss = -log_temperature.exp() * (log_density.detach() - sizes[1]).mean()
            temperature_optimizer.zero_grad()
            temperature_loss.backward()
            temperature_optimizer.step()
        follow(target_critics, critics, args.tau)
        losses = {"losses/qf_loss": critic_loss, "losses/qf_values": target.mean(), "losses/actor_loss": actor_loss}
        losses |= {"losses/entropy": -log_density.mean(), "losses/alpha": temperature}
        return {tag: value.item() for tag, value in losses.items()}

    observation, _ = env.reset(seed=args.seed)
    losses, returns, is_learning = {}, [], False
    for step in range(args.total_timesteps // args.num_envs):
        global_step = (step + 1) * args.num_envs
        with torch.no_grad():
            uniform = 2 * torch.rand(args.num_envs, sizes[1], device=args.device) - 1
            action = actor.draw(observation)[0] if is_learning else uniform
        following, reward, terminated, truncated, infos = env.step(action)
        ended = terminated | truncated
        # The slot of a finished episode shows the next scene already: what followed is in final_obs.
        after = torch.where(ended[:, None], infos["final_obs"], following) if ended.any() else following
        replay.add(observation, action, reward, after, terminated)
        observation = following
        if ended.any():  # undiscounted rewards sum to the potential
            returns += infos["final_info"]["potential"][ended].tolist()
        if not is_learning and global_step >= args.learning_starts:
            is_learning = True
            if args.normalise:
                actor.normalise.fit(replay.columns[0][: replay.count])
        for _ in range(updates_per_step if is_learning else 0):
            losses = update()
        if step % 20 == 19 and returns:
            curve["step"].append(global_step)
            curve["return"].append(float(np.mean(returns)))
            for tag, value in ({"charts/episodic_return": curve["return"][-1]} | losses).items():
                writer.add_scalar(tag, value, global_step)
            if step % 100 == 99:
                print(f"step {global_step}: return {curve['return'][-1]:.3f}", flush=True)
            returns = []
    writer.close()
    return actor, curve


@torch.no_grad()
def bound(env: SegmentationVectorEnv, num_scenes: int) -> dict[str, float]:
    """Return and SBD of the decoder's own copies of the true instances, on the first scenes of `env`."""
    segment = reconstruction_segmenter(env.pretrained)
    returns = []
    for index in range(num_scenes):
        state, _ = env.source.begin([index])
        copies = segment(state).masks[0]
        truth = torch.stack([state.label_map[0] == label for label in range(1, len(copies) + 1)])
        overlap, areas = (copies * truth).sum((1, 2)), copies.sum((1, 2)) + truth.sum((1, 2))
        returns.append((2 * overlap / areas).sum().item())
    return {
        "return": float(np.mean(returns)),
        "sbd": evaluate("bound", segment, env.source, num_scenes=num_scenes).mean["sbd"],
    }


def main(args: Args) -> None:
    """Train, save, and compare with random actions and with the bound on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=640, learning_starts=320, batch_size=32)
    folder = args.run_dir / f"{args.env_id}__{args.name}__{args.seed}__{int(time.time())}".replace("/", "-")
    torch.manual_seed(args.seed)
    options: dict[str, Any] = {"obs": "coarse", "action_scale": args.action_scale, "device": args.device}
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, sampler="shuffle", **options)
    started = time.perf_counter()
    actor, curve = train(args, env, folder)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time()

    write_json(folder / "learning_curve.json", curve)
    label = "environment steps", "mean return of training episodes"
    plot_curves(folder / "learning_curve.png", {args.name: (curve["step"], curve["return"])}, *label)
    save_program(folder, actor, env.arguments, env.reset()[0])
    policy, arguments = load_policy(folder, args.device, trust=True)
    num_scenes = 10 if args.quick else 100
    held_out = gym.make_vec(args.env_id, num_envs=1, split="test", **options)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds, "cpu_seconds": cpu_seconds}
    report = compare_with_random(
        policy, arguments, folder, num_scenes, **about, bound=bound(held_out.unwrapped, num_scenes)
    )
    print(f"{'bound':<20} {report['bound']['return']:9.3f} {report['bound']['sbd']:7.3f}    true count")
    print(f"policy, curve and table in {folder}")


if __name__ == "__main__":
    main(tyro.cli(Args))
