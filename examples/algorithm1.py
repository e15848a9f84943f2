"""Algorithm 1 of Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, on one page.

The environment is Gymnasium's, and the decoder is the one that it holds. `agents/algorithms/actor_critic.py` has the
same in parts, with micro-batches, several processes and checkpoints; a test compares the gradients of both.

python examples/algorithm1.py --seed 1
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
import tyro
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

import acis_env  # noqa: F401  (registers the environments)
from acis_env.autoencoder import kl_to_prior
from acis_env.decoder import Decoder
from acis_env.files import write_json
from acis_env.observations import unpack
from acis_env.tree import map_tensors
from agents.evaluation import evaluate_policy
from agents.models.actor import Actor, ActorConfig
from agents.models.agent import Agent
from agents.models.critic import Critic, CriticConfig


@dataclass(frozen=True)
class Args:
    """Train on the bundled leaves, and compare with the actor as it was before."""

    seed: int = 1
    """Seed of all random numbers."""
    iterations: int = 200
    """Passes of the outer loop; each plays one episode in every slot."""
    critic_warmup: int = 40
    """First passes, in which only the critic learns."""
    num_envs: int = 16
    """Slots of the environment."""
    learning_rate: float = 3e-4
    """Learning rate of the actor."""
    critic_learning_rate: float = 1e-3
    """Learning rate of the critic."""
    termination_learning_rate: float = 3e-3
    """Learning rate of the unit that says when to stop."""
    gamma: float = 0.9
    """Discount per predicted mask."""
    kl_weight: float = 1e-3
    """Weight of the KL divergence of the policy from the prior of the action space."""
    critic_updates: int = 3
    """Updates of the critic per pass."""
    critic_batch_size: int = 48
    """Steps per update of the critic."""
    replay_size: int = 8
    """Passes whose steps the critic learns from."""
    exploration: tuple[float, ...] = (0.0, 0.0, 0.5, 1.0)
    """Standard deviations of the noise added to actions, one drawn per episode."""
    device: str = "cpu"
    """Device to train on."""
    quick: bool = False
    """A run of under two minutes that only shows that everything works."""
    run_dir: Path = Path("runs")
    """Each run gets a folder in it."""


class Steps(NamedTuple):
    """Steps of finished episodes, as the buffer keeps them."""

    context: Tensor  # [S, 12, H, W] uint8
    mask: Tensor  # [S, 1, H, W] uint8, M_t
    predicted_mask: Tensor  # [S, 1, H, W] uint8, m_t
    remaining: Tensor  # [S] int64, instances missing before this mask
    returns: Tensor  # [S], sum of gamma^(i - t) r_i

    def select(self, rows: Tensor) -> Steps:
        """The steps `rows`."""
        return Steps(*(column[rows] for column in self))


class Starts(NamedTuple):
    """States in which episodes began, longest first."""

    context: Tensor  # [B, 12, H, W] uint8
    mask: Tensor  # [B, 1, H, W] uint8, M_1
    lengths: Tensor  # [B] int64, steps of the episodes


@torch.no_grad()
def execute_episodes(
    env: gym.vector.VectorEnv[Any, Any, Any], actor: Actor, args: Args, generator: torch.Generator
) -> tuple[Steps, Starts, float]:
    """Play one episode in every slot; returns its steps, where it began, and the mean of the rewards' sums."""
    core = env.unwrapped
    observation, info = env.reset()
    context, mask = unpack(observation, core.device)
    lengths, conditioning = info["num_instances"], (actor.condition(context), core.decoder.condition(context))
    starts = Starts(to_bytes(context), to_bytes(mask), lengths)
    memory, size = actor.initial_memory(env.num_envs), core.decoder.latent_size
    level = torch.tensor(args.exploration)[torch.randint(len(args.exploration), (env.num_envs, 1), generator=generator)]
    steps, rewards, alive = [], [], lengths > 0
    while alive.any():
        out = actor(conditioning[0], mask, memory)
        policy, extra = (torch.randn(env.num_envs, size, generator=generator).to(core.device) for _ in range(2))
        latent = out.mean + torch.exp(0.5 * out.log_variance) * policy + level.to(core.device) * extra
        action = (latent / core.action_scale).clamp(-1, 1)
        predicted_mask = core.decoder(action * core.action_scale, conditioning[1])
        observation, reward, terminated, truncated, _ = env.step(action)  # slots that end begin another episode
        steps.append((to_bytes(mask), to_bytes(predicted_mask), lengths - len(steps), alive))
        rewards.append(reward * alive)
        alive = alive & ~(terminated | truncated)
        mask, memory = unpack(observation, core.device)[1], out.memory
    returns, following = [], torch.zeros_like(rewards[0])
    for reward in reversed(rewards):
        following = reward + args.gamma * following
        returns.insert(0, following)
    rows = [
        Steps(starts.context[taken], masks[taken], predicted[taken], remaining[taken], value[taken])
        for (masks, predicted, remaining, taken), value in zip(steps, returns, strict=True)
    ]
    longest_first = lengths.argsort(descending=True, stable=True)
    played = Steps(*(torch.cat(columns) for columns in zip(*rows, strict=True)))
    return played, Starts(*(column[longest_first] for column in starts)), float(torch.stack(rewards).sum(0).mean())


def critic_loss(critic: Critic, steps: Steps) -> Tensor:
    """Policy evaluation: squared error of the value, Eq. (7), averaged over `steps`."""
    context, mask, predicted_mask = (x.float() / 255 for x in steps[:3])
    values = critic(critic.condition(context), mask, predicted_mask, steps.remaining)
    return F.mse_loss(values, steps.returns)


def climb(
    actor: Actor, critic: Critic, decoder: Decoder, starts: Starts, noise: Tensor, kl_weight: float
) -> tuple[Tensor, Tensor]:
    """Policy iteration: play again by `noise` `[B, T, l]`, and add up the gradient of minus the critic's values.

    A value needs nothing that comes after its mask, so that the gradient is taken step by step.

    Returns:
        What the termination unit reads in every state, and whether instances are still missing there.
    """
    context, mask, lengths = starts.context.float() / 255, starts.mask.float() / 255, starts.lengths
    conditioning, total = decoder.condition(context), int(lengths.sum())
    critic.requires_grad_(False)
    for_critic, memory = critic.condition(context), actor.initial_memory(len(context))
    features, targets = [], []
    for t in range(int(lengths.max()) + 1):
        reached, running = int((lengths >= t).sum()), int((lengths > t).sum())
        out = actor(actor.condition(context[:reached]), mask[:reached], memory[:reached])
        features.append(out.termination_features)
        targets.append((lengths[:reached] > t).float())
        if running == 0:
            break
        mean, log_variance = out.mean[:running], out.log_variance[:running]
        latent = mean + torch.exp(0.5 * log_variance) * noise[:running, t]
        predicted_mask = decoder(latent, map_tensors(lambda x, k=running: x[:k], conditioning))
        now = tuple(x[:running] for x in for_critic)
        value = critic(now, mask[:running], predicted_mask, lengths[:running] - t)
        ((kl_weight * kl_to_prior(mean, log_variance) - value).sum() / total).backward()
        mask, memory = torch.maximum(mask[:running], predicted_mask).detach(), out.memory.detach()
    critic.requires_grad_(True)
    return torch.cat(features), torch.cat(targets)


def descend(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One step along the gradient, clipped to a norm of 1."""
    parameters = optimizer.param_groups[0]["params"]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()


def to_bytes(values: Tensor) -> Tensor:
    """[0, 1] as the nearest of 0..255."""
    return (values * 255).round().to(torch.uint8)


def train(env: gym.vector.VectorEnv[Any, Any, Any], args: Args, run: Path, **evaluation: Any) -> list[dict[str, float]]:
    """Train by Algorithm 1; returns what `evaluate_policy`, with arguments `evaluation`, says before and after."""
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    env.reset(seed=1000 * args.seed)
    core = env.unwrapped
    autoencoder = core.pretrained.autoencoder
    actor = Actor(autoencoder.config, ActorConfig(memory_size=256)).to(args.device)
    critic = Critic(autoencoder.config, CriticConfig(), max_remaining=21).to(args.device)
    actor.start_from(autoencoder.encoder)  # "Initialise actor from pre-training"
    critic.start_from(autoencoder.encoder)
    actor_optimizer = torch.optim.Adam(actor.policy_parameters())
    critic_optimizer = torch.optim.Adam(critic.parameters())
    termination_optimizer = torch.optim.Adam(actor.termination.parameters())
    replay: deque[Steps] = deque(maxlen=args.replay_size)
    agent = Agent(actor, core.pretrained, max_steps=core.scenes.max_instances)
    results = [evaluate_policy(agent, core.arguments, **evaluation)]
    writer = SummaryWriter(str(run))
    for iteration in range(args.iterations):
        steps, starts, mean_return = execute_episodes(env, actor, args, generator)
        replay.append(steps)
        everything = Steps(*(torch.cat(columns) for columns in zip(*replay, strict=True)))
        for _ in range(args.critic_updates):
            chosen = torch.randperm(len(everything.returns), generator=generator)[: args.critic_batch_size]
            loss = critic_loss(critic, everything.select(chosen.to(args.device)))
            loss.backward()
            descend(critic_optimizer, args.critic_learning_rate)
        writer.add_scalar("losses/critic", loss.item(), iteration)
        writer.add_scalar("charts/episodic_return", mean_return, iteration)
        if iteration < args.critic_warmup:
            continue
        share = (iteration - args.critic_warmup) / (args.iterations - args.critic_warmup)
        decay = 1.0 if share < 0.7 else 0.3 if share < 0.9 else 0.1
        shape = (args.num_envs, int(starts.lengths.max()), core.decoder.latent_size)
        noise = torch.randn(shape, generator=generator).to(args.device)
        features, targets = climb(actor, critic, core.decoder, starts, noise, args.kl_weight)
        descend(actor_optimizer, decay * args.learning_rate)
        for _ in range(24):  # the unit is small, and trails a policy that moves under it
            F.binary_cross_entropy_with_logits(actor.continue_logit(features), targets).backward()
            descend(termination_optimizer, decay * args.termination_learning_rate)
    writer.close()
    agent.save(run / "agent.pt")
    results.append(evaluate_policy(agent, core.arguments, **evaluation))
    write_json(run / "evaluation.json", dict(zip(("before", "after"), results, strict=True)))
    return results


def main(args: Args) -> None:
    """Train on the bundled leaves, and print what the agent earns on held-out ones."""
    if args.quick:
        args = replace(args, iterations=4, critic_warmup=2, num_envs=4)
    run = args.run_dir / f"ACIS-Leaves-v0__algorithm1__{args.seed}__{int(time.time())}"
    colours = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1}
    env = gym.make_vec("ACIS/Leaves-v0", args.num_envs, augmentation=colours, device=args.device)
    num_scenes = 2 if args.quick else 100
    before, after = train(env, args, run, num_scenes=num_scenes)
    print(f"{num_scenes} held-out scenes   return     SBD")
    for name, means in (("before", before), ("after", after)):
        print(f"{name:<20} {means['return']:9.3f} {means['sbd']:7.3f}")
    print(f"agent in {run}")


if __name__ == "__main__":
    main(tyro.cli(Args))
