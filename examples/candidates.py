"""An actor-critic without any gradient of the reward, on one page.

In every state a few candidates are tried about the policy's mean, in pairs on opposite sides. What the two of a pair
earn says in which direction the actor should move; all of it teaches a critic, which searches for better actions than
the actor's once training is over. Any environment that can try an action and take it back will do: here that is a pure
function. `agents/algorithms/candidate_actor_critic.py` has the same with a replay, micro-batches and checkpoints.

python examples/candidates.py --seed 1
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import acis_env  # noqa: F401  (registers the environments)
from acis_env import dynamics
from acis_env.autoencoder import kl_to_prior
from acis_env.files import write_json
from agents.evaluation import agent_segmenter, evaluate
from agents.models.actor import Actor, ActorConfig
from agents.models.agent import Agent
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig
from agents.models.selection import ActionSelection, SelectionConfig


@dataclass(frozen=True)
class Args:
    """Train on the bundled leaves; compare with the actor as it was before, and with it alone, without the critic."""

    seed: int = 1
    """Seed of all random numbers."""
    iterations: int = 150
    """Number of updates; each plays one episode in every slot."""
    num_envs: int = 16
    """Slots of the environment."""
    learning_rate: float = 2e-3
    """Learning rate of the actor."""
    critic_learning_rate: float = 3e-3
    """Learning rate of the critic."""
    spreads: tuple[float, ...] = (0.3, 0.6)
    """Standard deviations of the pairs about the mean, one pair for each."""
    kl_weight: float = 3e-4
    """Weight of the KL divergence of the policy from the prior of the action space."""
    device: str = "cpu"
    """Device to train on."""
    quick: bool = False
    """A run of under two minutes that only shows that everything works."""
    run_dir: Path = Path("runs")
    """Each run gets a folder in it."""


def losses(
    env: gym.vector.VectorEnv[Any, Any, Any], actor: Actor, critic: RankingCritic, args: Args
) -> tuple[Tensor, ...]:
    """Play an episode in every slot by the policy's mean; the losses of actor and critic, and the mean return."""
    core = env.unwrapped
    env.reset()
    state = core.state
    conditioning, known = actor.condition(state.context), critic.condition(state.context)
    memory, returns = actor.initial_memory(len(state)), torch.zeros(len(state), device=args.device)
    actor_terms, critic_terms = [], []
    for _ in range(int(state.num_instances.max())):
        out = actor(conditioning, state.accumulated_mask, memory)
        running = state.step_count < state.num_instances
        mean, slope = out.mean.detach(), torch.zeros_like(out.mean)
        values, earned = [], []
        for spread in args.spreads:
            noise = torch.randn(mean.shape).to(mean)
            for side in (noise, -noise):
                tried, reward = dynamics.step(state, mean + spread * side, core.decoder, core.rules)
                slope += reward[:, None] * side / (spread * 2 * len(args.spreads))
                values.append(critic(known, state.accumulated_mask, tried.predicted_mask))
                earned.append(reward)
        errors = torch.stack(values) - torch.stack(earned)
        within = errors - errors.mean(0)  # a choice between actions depends on their differences alone
        critic_terms.append((within.square().mean(0) + 0.1 * errors.mean(0).square())[running])
        kl = kl_to_prior(out.mean, out.log_variance)
        actor_terms.append((args.kl_weight * kl - (out.mean * slope).sum(1))[running])
        with torch.no_grad():
            state, reward = dynamics.step(state, mean, core.decoder, core.rules)
        returns += reward * running
        memory = out.memory.detach()
    return torch.cat(actor_terms).mean(), torch.cat(critic_terms).mean(), returns.mean()


def train(
    env: gym.vector.VectorEnv[Any, Any, Any], args: Args, run: Path, num_scenes: int
) -> dict[str, dict[str, float]]:
    """Train; what held-out scenes say of the actor before, and of it after, alone and with the critic's search."""
    torch.manual_seed(args.seed)
    env.reset(seed=1000 * args.seed)
    core = env.unwrapped
    autoencoder = core.pretrained.autoencoder
    actor = Actor(autoencoder.config, ActorConfig(memory_size=256)).to(args.device)
    actor.start_from(autoencoder.encoder)
    critic = RankingCritic(RankingCriticConfig()).to(args.device)
    optimizers = {
        torch.optim.Adam(actor.policy_parameters()): args.learning_rate,
        torch.optim.Adam(critic.parameters()): args.critic_learning_rate,
    }
    test = gym.make_vec("ACIS/Leaves-v0", 1, split="test", device=args.device).unwrapped
    agent = Agent(actor, core.pretrained, max_steps=core.scenes.max_instances)

    def measure() -> dict[str, float]:
        return evaluate("agent", agent_segmenter(agent), test.source, num_scenes=num_scenes).mean

    results = {"before": measure()}
    with SummaryWriter(str(run)) as writer:
        for iteration in range(args.iterations):
            actor_loss, critic_loss, mean_return = losses(env, actor, critic, args)
            (actor_loss + critic_loss).backward()
            share = iteration / args.iterations
            for optimizer, rate in optimizers.items():
                torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
                optimizer.param_groups[0]["lr"] = rate * (1.0 if share < 0.7 else 0.3 if share < 0.9 else 0.1)
                optimizer.step()
                optimizer.zero_grad()
            writer.add_scalar("losses/critic", critic_loss.item(), iteration)
            writer.add_scalar("charts/episodic_return", mean_return.item(), iteration)
    results["after"] = measure()
    agent.selection = ActionSelection(critic, agent.decoder, SelectionConfig())
    results["with the critic"] = measure()
    agent.save(run / "agent.pt")
    write_json(run / "evaluation.json", results)
    return results


def main(args: Args) -> None:
    """Train on the bundled leaves, and print what the agent finds in held-out ones."""
    if args.quick:
        args = replace(args, iterations=3, num_envs=4)
    run = args.run_dir / f"ACIS-Leaves-v0__candidates__{args.seed}__{int(time.time())}"
    colours = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1}
    env = gym.make_vec(
        "ACIS/Leaves-v0", args.num_envs, autoreset_mode="Disabled", augmentation=colours, device=args.device
    )
    num_scenes = 2 if args.quick else 100
    print(f"{num_scenes} held-out scenes, as many masks as instances: SBD, Dice of the masks")
    for name, mean in train(env, args, run, num_scenes).items():
        print(f"{name:<20} {mean['sbd_gt_stop']:.3f}   {mean['dice_star']:.3f}")
    print(f"agent in {run}")


if __name__ == "__main__":
    main(tyro.cli(Args))
