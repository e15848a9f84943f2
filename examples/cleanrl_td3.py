"""TD3 in one file, torch-native, with a replay buffer on the device.

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
from agents.policies import compare_with_random, load_policy, save_program


@dataclass(frozen=True)
class Args:
    """TD3 with small perceptrons on the coarse observation."""

    exp_name: str = "cleanrl_td3"
    """Part of the run's name."""
    seed: int = 1
    """Of the networks, the noise and the scenes."""
    env_id: str = "ACIS/Leaves-v0"
    """A registered environment with bundled scenes."""
    total_timesteps: int = 60_000
    """Steps, summed over the slots."""
    num_envs: int = 16
    """Scenes side by side."""
    learning_starts: int = 5_000
    """Steps of random actions before the first update."""
    updates_per_step: int = 8
    """Critic updates after every step of all slots."""
    policy_frequency: int = 2
    """Critic updates per actor update."""
    buffer_size: int = 60_000
    """Transitions that are kept."""
    batch_size: int = 256
    """Transitions of an update."""
    learning_rate: float = 3e-4
    """Of both optimisers."""
    gamma: float = 0.9
    """Discount per mask."""
    tau: float = 0.01
    """Share of the new weights in the targets, per actor update."""
    exploration_noise: float = 0.3
    """Standard deviation of the noise on actions; the latent prior's is a third of an action of 1."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target's actions."""
    noise_clip: float = 0.4
    """Largest such noise."""
    device: str = "cpu"
    """Of everything."""
    quick: bool = False
    """A run of under two minutes that only shows that everything works."""
    run_dir: Path = Path("runs")
    """Each run gets a folder in it."""


class Replay:
    """The last transitions, as tensors on the device."""

    def __init__(self, size: int, observation_size: int, action_size: int, device: str) -> None:
        widths = (observation_size, action_size, 1, observation_size, 1)
        self.columns = [torch.zeros(size, width, device=device) for width in widths]
        self.size, self.position, self.count = size, 0, 0

    def add(self, *batch: Tensor) -> None:
        """Observation, action, reward, next observation and termination, `[B, ...]` each."""
        index = (torch.arange(len(batch[0])) + self.position) % self.size
        for column, values in zip(self.columns, batch, strict=True):
            column[index] = values.float().view(len(index), -1)
        self.position = int(index[-1] + 1) % self.size
        self.count = min(self.count + len(index), self.size)

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """The same columns, of random transitions."""
        index = torch.randint(self.count, (batch_size,))
        return tuple(column[index] for column in self.columns)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs))


def make_actor(inputs: int, outputs: int) -> nn.Sequential:
    """Actions in [-1, 1]; they begin near the middle, where `tanh` has its slope."""
    actor = mlp(inputs, outputs)
    nn.init.uniform_(actor[-1].weight, -3e-3, 3e-3)
    return actor.append(nn.Tanh())


def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move the weights of `target` towards those of `source`."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), source.parameters(), strict=True):
            old.lerp_(new, tau)


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=1000, learning_starts=400, updates_per_step=2)
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / run_name
    writer = SummaryWriter(str(folder))
    torch.manual_seed(args.seed)
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, obs="coarse", sampler="shuffle")
    inputs, outputs = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    actor = make_actor(inputs, outputs).to(args.device)
    critics = nn.ModuleList(mlp(inputs + outputs, 1) for _ in range(2)).to(args.device)
    target_actor, target_critics = deepcopy(actor), deepcopy(critics)
    actor_optimizer = torch.optim.Adam(actor.parameters(), args.learning_rate)
    critic_optimizer = torch.optim.Adam(critics.parameters(), args.learning_rate)
    replay = Replay(args.buffer_size, inputs, outputs, args.device)

    def values(networks: nn.ModuleList, observation: Tensor, action: Tensor) -> list[Tensor]:
        joint = torch.cat((observation, action), dim=1)
        return [network(joint) for network in networks]

    started = time.perf_counter()
    observation, _ = env.reset(seed=args.seed)
    scalars: dict[str, float] = {}
    num_critic_updates = 0
    for step in range(args.total_timesteps // args.num_envs):
        global_step = (step + 1) * args.num_envs
        with torch.no_grad():
            if global_step <= args.learning_starts:
                action = 2 * torch.rand(args.num_envs, outputs, device=args.device) - 1
            else:
                action = actor(observation)
                action = (action + args.exploration_noise * torch.randn_like(action)).clamp(-1, 1)
        following, reward, terminated, truncated, infos = env.step(action)
        ended = terminated | truncated
        # The slot of a finished episode shows the next scene already: what followed is in final_obs.
        after = torch.where(ended[:, None], infos["final_obs"], following) if ended.any() else following
        replay.add(observation, action, reward, after, terminated)
        observation = following
        if ended.any():  # undiscounted rewards sum to the potential
            scalars["charts/episodic_return"] = infos["final_info"]["potential"][ended].mean().item()
            scalars["charts/episodic_length"] = infos["final_info"]["step_count"][ended].float().mean().item()

        for _ in range(args.updates_per_step if global_step > args.learning_starts else 0):
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
            num_critic_updates += 1
            scalars |= {"losses/qf1_loss": critic_loss.item(), "losses/qf1_values": target.mean().item()}
            if num_critic_updates % args.policy_frequency == 0:
                actor_loss = -values(critics, o, actor(o))[0].mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()
                scalars["losses/actor_loss"] = actor_loss.item()
                follow(target_actor, actor, args.tau)
                follow(target_critics, critics, args.tau)
        if step % 50 == 0:
            scalars["charts/SPS"] = global_step / (time.perf_counter() - started)
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, global_step)
        if step % 500 == 0 and "charts/episodic_return" in scalars:
            print(f"step {global_step}: return {scalars['charts/episodic_return']:.3f}")
    writer.close()
    seconds = time.perf_counter() - started

    save_program(folder, actor, env.arguments, observation)
    policy, arguments = load_policy(folder, args.device)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(policy, arguments, folder, 10 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
