"""TD3 in one file, torch-native, with a replay buffer on the device.

The actor is updated as often as the critics, and has a cost of saturation: both differ from the published TD3.

python examples/cleanrl_td3.py --seed 1
"""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

import acis_env  # noqa: F401 (registers the environments)
from agents.evaluation import compare_with_random, load_policy, save_program
from agents.models.product_critic import ProductCritic


@dataclass(frozen=True)
class Args:
    """Train TD3 with small networks on the coarse observation, and compare it with random actions."""

    exp_name: str = "cleanrl_td3"
    """Name of the experiment, a part of the run's name."""
    seed: int = 1
    """Seed of the networks, the noise and the scenes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes."""
    total_timesteps: int = 60_000
    """Number of steps, summed over the slots."""
    num_envs: int = 64
    """Number of scenes side by side."""
    action_scale: float = 1.5
    """Number of standard deviations of the latent prior that an action of 1 stands for; actors tend to the border."""
    learning_starts: int = 10_000
    """Number of steps with random actions before the first update."""
    updates_per_step: int = 2
    """Number of updates after every step of all slots; more than a few only fit the noise of the transitions."""
    buffer_size: int = 100_000
    """Number of transitions that the replay buffer keeps."""
    batch_size: int = 256
    """Number of transitions in an update."""
    learning_rate: float = 1e-3
    """Learning rate of the critics."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    dropout: float = 0.1
    """Dropout rate of the critics."""
    saturation_cost: float = 0.002
    """Weight of the square of the actor's outputs before `tanh`."""
    gamma: float = 0.5
    """Discount per mask; most of a reward is owed to the last action."""
    tau: float = 0.02
    """Share of the new weights in the target networks, per update."""
    exploration_noise: float = 0.3
    """Standard deviation of the exploration noise on actions."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target's actions."""
    noise_clip: float = 0.4
    """Largest noise on the target's actions."""
    device: str = "cpu"
    """Device of environment and networks: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


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
    """Centre and scale observations `[B, o]`, by what `fit` saw."""

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


class Actor(nn.Module):
    """Actions in [-1, 1]; they begin near the middle, where `tanh` has its slope."""

    def __init__(self, observation_size: int, action_size: int, width: int = 256) -> None:
        super().__init__()
        self.normalise = Normalise(observation_size)
        last = nn.Linear(width, action_size)
        nn.init.uniform_(last.weight, -3e-3, 3e-3)
        self.body = nn.Sequential(
            nn.Linear(observation_size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.body(self.normalise(observation)).tanh()


def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move the weights of `target` towards those of `source`."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), source.parameters(), strict=True):
            old.lerp_(new, tau)


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=320, learning_starts=160)
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / run_name
    writer = SummaryWriter(str(folder))
    torch.manual_seed(args.seed)
    options = {"obs": "coarse", "sampler": "shuffle", "action_scale": args.action_scale}
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, **options)
    sizes = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    actor = Actor(*sizes).to(args.device)
    critics = nn.ModuleList(ProductCritic(*sizes, dropout=args.dropout) for _ in range(2)).to(args.device)
    target_actor, target_critics = deepcopy(actor), deepcopy(critics).eval()
    actor_optimizer = torch.optim.Adam(actor.parameters(), args.actor_learning_rate)
    critic_optimizer = torch.optim.AdamW(critics.parameters(), args.learning_rate)
    replay = Replay(args.buffer_size, *sizes, args.device)

    def values(networks: nn.ModuleList, observation: Tensor, action: Tensor) -> list[Tensor]:
        return [network(actor.normalise(observation), action) for network in networks]

    started = time.perf_counter()
    observation, _ = env.reset(seed=args.seed)
    scalars: dict[str, float] = {}
    is_learning = False
    for step in range(args.total_timesteps // args.num_envs):
        global_step = (step + 1) * args.num_envs
        with torch.no_grad():
            if is_learning:
                action = actor(observation)
                action = (action + args.exploration_noise * torch.randn_like(action)).clamp(-1, 1)
            else:
                action = 2 * torch.rand(args.num_envs, sizes[1], device=args.device) - 1
        following, reward, terminated, truncated, infos = env.step(action)
        ended = terminated | truncated
        # The slot of a finished episode shows the next scene already: what followed is in final_obs.
        after = torch.where(ended[:, None], infos["final_obs"], following) if ended.any() else following
        replay.add(observation, action, reward, after, terminated)
        observation = following
        if ended.any():  # undiscounted rewards sum to the potential
            scalars["charts/episodic_return"] = infos["final_info"]["potential"][ended].mean().item()
            scalars["charts/episodic_length"] = infos["final_info"]["step_count"][ended].float().mean().item()

        if not is_learning and global_step >= args.learning_starts:
            is_learning = True
            for network in (actor, target_actor):
                network.normalise.fit(replay.columns[0][: replay.count])
        for _ in range(args.updates_per_step if is_learning else 0):
            o, a, r, o_next, is_terminal = replay.sample(args.batch_size)
            with torch.no_grad():
                noise = (args.policy_noise * torch.randn_like(a)).clamp(-args.noise_clip, args.noise_clip)
                a_next = (target_actor(o_next) + noise).clamp(-1, 1)
                q_next = torch.minimum(*values(target_critics, o_next, a_next))
                target = r + args.gamma * (1 - is_terminal) * q_next
            critic_loss = sum(F.mse_loss(q, target) for q in values(critics, o, a))
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()

            before_tanh = actor.body(actor.normalise(o))
            saturation = before_tanh.square().mean()
            actor_loss = args.saturation_cost * saturation - values(critics, o, before_tanh.tanh())[0].mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()
            follow(target_actor, actor, args.tau)
            follow(target_critics, critics, args.tau)
            scalars |= {"losses/qf1_loss": critic_loss.item(), "losses/qf1_values": target.mean().item()}
            scalars["losses/actor_loss"] = actor_loss.item()
        if step % 20 == 0:
            scalars["charts/SPS"] = global_step / (time.perf_counter() - started)
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, global_step)
        if step % 100 == 0 and "charts/episodic_return" in scalars:
            print(f"step {global_step}: return {scalars['charts/episodic_return']:.3f}")
    writer.close()
    seconds = time.perf_counter() - started

    save_program(folder, actor, env.arguments, observation)
    policy, arguments = load_policy(folder, args.device, trust=True)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(policy, arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
