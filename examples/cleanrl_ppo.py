"""PPO in one file, torch-native: observations, actions and rewards never leave the device.

python examples/cleanrl_ppo.py --seed 1
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils.tensorboard import SummaryWriter

import acis_env  # noqa: F401 (registers the environments)
from agents.evaluation import compare_with_random, load_policy, save_program


@dataclass(frozen=True)
class Args:
    """Train PPO with a small perceptron on the coarse observation, and compare it with random actions."""

    exp_name: str = "cleanrl_ppo"
    """Name of the experiment, a part of the run's name."""
    seed: int = 1
    """Seed of the network, the actions and the scenes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes."""
    total_timesteps: int = 40_000
    """Number of steps, summed over the slots."""
    num_envs: int = 32
    """Number of scenes side by side."""
    num_steps: int = 32
    """Number of steps in every slot between two updates."""
    learning_rate: float = 1e-3
    """Learning rate of Adam at first; it falls linearly to zero."""
    gamma: float = 0.5
    """Discount per mask; most of a reward is owed to the last action."""
    gae_lambda: float = 0.9
    """Weight of later steps in generalised advantage estimation: 0 trusts the critic, 1 the rewards alone."""
    update_epochs: int = 10
    """Number of passes over the collected steps in an update."""
    batch_size: int = 256
    """Number of steps in a minibatch."""
    clip_coef: float = 0.2
    """Clipping range of the probability ratio: larger changes do not pay."""
    vf_coef: float = 0.5
    """Weight of the critic's loss."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradients; larger ones are clipped to it."""
    log_std: float = -1.5
    """Logarithm of the first actions' standard deviation; the latent prior has a third of an action of 1."""
    device: str = "cpu"
    """Device of environment and networks: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


class ActorCritic(nn.Module):
    """A Gaussian policy and the value of a state, with nothing in common."""

    def __init__(self, inputs: int, outputs: int, log_std: float) -> None:
        super().__init__()
        self.actor = mlp(inputs, outputs, gain=0.01)
        self.critic = mlp(inputs, 1, gain=1.0)
        self.log_std = nn.Parameter(torch.full((outputs,), log_std))

    def forward(self, observation: Tensor) -> Normal:
        return Normal(self.actor(observation), self.log_std.exp())

    def value(self, observation: Tensor) -> Tensor:
        return self.critic(observation)[:, 0]


def mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers."""
    layers = [nn.Linear(inputs, 256), nn.Linear(256, 256), nn.Linear(256, outputs)]
    for layer, strength in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, strength)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def advantages_and_returns(
    rewards: Tensor, values: Tensor, bootstraps: Tensor, ended: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over `[T, B]` steps.

    Args:
        rewards: of each step.
        values: of the state before each step.
        bootstraps: of the state after each step as the episode saw it, zero where it terminated.
        ended: whether the episode ended with the step, in whatever way.
        gamma: discount.
        gae_lambda: trace decay.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        error = rewards[t] + gamma * bootstraps[t] - values[t]
        following = error + gamma * gae_lambda * ~ended[t] * following
        advantages[t] = following
    return advantages, advantages + values


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=8, total_timesteps=8 * args.num_steps)
    run_name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / run_name
    writer = SummaryWriter(str(folder))
    torch.manual_seed(args.seed)
    env = gym.make_vec(args.env_id, num_envs=args.num_envs, device=args.device, obs="coarse", sampler="shuffle")
    inputs, outputs = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    agent = ActorCritic(inputs, outputs, args.log_std).to(args.device)
    optimizer = torch.optim.Adam(agent.parameters(), args.learning_rate, eps=1e-5)

    started = time.perf_counter()
    observation, _ = env.reset(seed=args.seed)
    num_updates = max(args.total_timesteps // (args.num_envs * args.num_steps), 1)
    for update in range(num_updates):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - update / num_updates)
        steps: list[tuple[Tensor, ...]] = []
        potentials, lengths = [], []
        for _ in range(args.num_steps):
            with torch.no_grad():
                policy = agent(observation)
                action = policy.sample()
                following, reward, terminated, truncated, infos = env.step(action)
                ended = terminated | truncated
                # The slot of a finished episode shows the next scene already: what followed is in final_obs.
                after = torch.where(ended[:, None], infos["final_obs"], following) if ended.any() else following
                bootstrap = torch.where(terminated, 0, agent.value(after))
            log_prob = policy.log_prob(action).sum(1)
            steps.append((observation, action, log_prob, reward, agent.value(observation).detach(), bootstrap, ended))
            observation = following
            if ended.any():
                potentials.append(infos["final_info"]["potential"][ended])
                lengths.append(infos["final_info"]["step_count"][ended].float())
        observations, actions, log_probs, rewards, values, bootstraps, ends = map(torch.stack, zip(*steps, strict=True))
        advantages, returns = advantages_and_returns(rewards, values, bootstraps, ends, args.gamma, args.gae_lambda)
        data = [x.flatten(0, 1) for x in (observations, actions, log_probs, advantages, returns)]

        for _ in range(args.update_epochs):
            for index in torch.randperm(len(data[0]), device=args.device).split(args.batch_size):
                o, a, old_log_prob, advantage, target = (x[index] for x in data)
                ratio = (agent(o).log_prob(a).sum(1) - old_log_prob).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
                value_loss = 0.5 * (agent.value(o) - target).square().mean()
                optimizer.zero_grad()
                (policy_loss + args.vf_coef * value_loss).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        global_step = (update + 1) * args.num_envs * args.num_steps
        explained = 1 - (returns - values).var() / returns.var()
        scalars = {
            "charts/SPS": global_step / (time.perf_counter() - started),
            "charts/learning_rate": optimizer.param_groups[0]["lr"],
            "losses/policy_loss": policy_loss.item(),
            "losses/value_loss": value_loss.item(),
            "losses/explained_variance": explained.item(),
        }
        if potentials:  # undiscounted rewards sum to the potential
            scalars["charts/episodic_return"] = torch.cat(potentials).mean().item()
            scalars["charts/episodic_length"] = torch.cat(lengths).mean().item()
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, global_step)
        if update % 10 == 0 and potentials:
            print(f"step {global_step}: return {scalars['charts/episodic_return']:.3f}")
    writer.close()
    seconds = time.perf_counter() - started

    save_program(folder, agent.actor, env.arguments, observation)
    policy, arguments = load_policy(folder, args.device, trust=True)
    about = {"seed": args.seed, "total_timesteps": args.total_timesteps, "seconds": seconds}
    compare_with_random(policy, arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
