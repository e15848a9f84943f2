"""TorchRL's own DDPG on the coarse observation: its collector, replay buffer, loss and target updates.

python examples/torchrl_ddpg.py --seed 1
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import torch
import tyro
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import Compose, RewardSum, StepCounter, TransformedEnv
from torchrl.modules import AdditiveGaussianModule, ValueOperator
from torchrl.objectives import DDPGLoss, SoftUpdate, ValueEstimators

import acis_env  # noqa: F401 (registers the environments)
from acis_env.adapters.torchrl import SegmentationTorchRLEnv
from agents.evaluation import compare_with_random, load_policy, save_program
from agents.models.product_critic import ProductCritic

TRANSITION = ("observation", "action", *(("next", key) for key in ("observation", "reward", "terminated", "done")))
"""Parts of a step that the loss needs; the buffer keeps nothing else."""


@dataclass(frozen=True)
class Args:
    """Train a small network on bundled leaves and compare it with random actions."""

    seed: int = 1
    """Seed of networks, noise, batches and scenes."""
    env_id: str = "ACIS/Leaves-v0"
    """Id of a registered environment with bundled scenes."""
    num_envs: int = 64
    """Number of scenes side by side."""
    total_timesteps: int = 40_960
    """Number of steps, summed over the scenes."""
    learning_starts: int = 10_240
    """Number of steps with uniformly random actions before the first update."""
    num_steps: int = 4
    """Number of steps in every slot between two updates."""
    num_updates: int = 8
    """Number of updates per `num_envs * num_steps` steps; with many more the critic learns the buffer by heart."""
    action_scale: float = 1.5
    """Number of standard deviations of the latent prior that an action of 1 stands for; actors tend to the border."""
    batch_size: int = 256
    """Number of transitions in an update."""
    buffer_size: int = 100_000
    """Number of transitions that the replay buffer keeps."""
    hidden: int = 256
    """Width of the hidden layers of actor and critic."""
    dropout: float = 0.1
    """Dropout rate of the critic."""
    learning_rate: float = 1e-3
    """Learning rate of the critic."""
    actor_learning_rate: float = 3e-4
    """Learning rate of the actor."""
    gamma: float = 0.5
    """Discount per predicted mask; most of a reward is owed to the last action, and what follows is noise to it."""
    saturation_cost: float = 0.002
    """Weight of the square of the actor's outputs before `tanh`; not part of DDPG."""
    tau: float = 0.02
    """Share of the new weights in the target networks, per update."""
    exploration_noise: float = 0.3
    """Standard deviation of the exploration noise on actions."""
    device: str = "cpu"
    """Device of environment and networks: "cpu" or "cuda"."""
    quick: bool = False
    """Take under two minutes, only to show that everything works."""
    run_dir: Path = Path("runs")
    """Folder of all runs; each gets a folder in it."""


class Normalise(nn.Module):
    """Centre and scale observations `[B, o]` by the statistics of others `[n, o]`."""

    def __init__(self, observations: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", observations.mean(0))
        self.register_buffer("scale", 1 / (observations.std(0) + 0.01))

    def forward(self, observation: Tensor) -> Tensor:
        return (observation - self.mean) * self.scale


class Critic(nn.Module):
    """Value `[B, 1]` of an action `[B, a]` in a state of which it reads the normalised observation `[B, o]`."""

    def __init__(self, normalise: Normalise, num_actions: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.normalise = normalise
        self.product = ProductCritic(len(normalise.mean), num_actions, hidden, dropout)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.product(self.normalise(observation), action)


def make_actor(normalise: Normalise, num_actions: int, hidden: int) -> nn.Sequential:
    """Actions `[B, a]` in [-1, 1]; they begin near the middle, where `tanh` has its slope."""
    last = nn.Linear(hidden, num_actions)
    nn.init.uniform_(last.weight, -3e-3, 3e-3)
    first = nn.Linear(len(normalise.mean), hidden)
    return nn.Sequential(normalise, first, nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last, nn.Tanh())


def main(args: Args) -> None:
    """Train, save, and compare with random actions on held-out scenes."""
    if args.quick:
        args = replace(args, num_envs=16, total_timesteps=512, learning_starts=128, num_updates=4)
    name = f"{args.env_id}__torchrl_ddpg__{args.seed}__{int(time.time())}".replace("/", "-")
    folder = args.run_dir / name
    writer = SummaryWriter(str(folder))
    torch.manual_seed(args.seed)
    start = time.perf_counter()

    # TorchRL begins the next episodes itself, hence an environment without automatic resets.
    vector_env = gym.make_vec(
        args.env_id,
        num_envs=args.num_envs,
        obs="coarse",
        device=args.device,
        sampler="shuffle",
        action_scale=args.action_scale,
        autoreset_mode="Disabled",
    )
    env = TransformedEnv(SegmentationTorchRLEnv(vector_env), Compose(RewardSum(), StepCounter()))
    env.set_seed(args.seed)
    seen = env.rollout(20, break_when_any_done=False)["observation"].flatten(0, 1)
    normalise, num_actions = Normalise(seen), env.action_spec.shape[-1]

    network = make_actor(normalise, num_actions, args.hidden).to(args.device)
    actor = TensorDictModule(network, in_keys=["observation"], out_keys=["action"])
    critic = ValueOperator(
        Critic(normalise, num_actions, args.hidden, args.dropout).to(args.device), in_keys=["observation", "action"]
    )
    noise = AdditiveGaussianModule(env.action_spec, args.exploration_noise, args.exploration_noise)
    collector = Collector(
        env,
        TensorDictSequential(actor, noise.to(args.device)),
        frames_per_batch=args.num_envs * args.num_steps,
        total_frames=args.total_timesteps,
        init_random_frames=args.learning_starts,
        device=args.device,
        auto_register_policy_transforms=False,
    )
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(args.buffer_size, device=args.device), batch_size=args.batch_size
    )

    loss = DDPGLoss(actor, critic, delay_actor=True, delay_value=True, use_prioritized_weights=False)
    loss.make_value_estimator(ValueEstimators.TD0, gamma=args.gamma)
    targets = SoftUpdate(loss, tau=args.tau)
    critic_optimizer = torch.optim.Adam(loss.value_network_params.parameters(), lr=args.learning_rate)
    actor_optimizer = torch.optim.Adam(loss.actor_network_params.parameters(), lr=args.actor_learning_rate)

    global_step = 0
    for data in collector:
        global_step += data.numel()
        ended = data["next", "done"]
        if ended.any():
            writer.add_scalar("charts/episodic_return", data["next", "episode_reward"][ended].mean(), global_step)
            writer.add_scalar("charts/episodic_length", data["next", "step_count"][ended].float().mean(), global_step)
            if global_step % 5_120 == 0:
                print(f"step {global_step}: return {data['next', 'episode_reward'][ended].mean():.3f}", flush=True)
        buffer.extend(data.select(*TRANSITION).reshape(-1))
        if global_step < args.learning_starts:
            continue
        for _ in range(args.num_updates):
            batch = buffer.sample()
            critic_loss, values = loss.loss_value(batch)
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
            actor_loss, _ = loss.loss_actor(batch)
            penalty = args.saturation_cost * network[:-1](batch["observation"]).square().mean()
            actor_optimizer.zero_grad()
            (actor_loss + penalty).backward()
            actor_optimizer.step()
            targets.step()
        writer.add_scalar("losses/qf1_loss", critic_loss, global_step)
        writer.add_scalar("losses/actor_loss", actor_loss, global_step)
        writer.add_scalar("losses/qf1_values", values["pred_value"].mean(), global_step)
        writer.add_scalar("charts/SPS", global_step / (time.perf_counter() - start), global_step)
    collector.shutdown()
    seconds = time.perf_counter() - start

    writer.close()
    save_program(folder, network, vector_env.arguments, seen[:2])
    policy, arguments = load_policy(folder, args.device, trust=True)
    about = {"seed": args.seed, "total_timesteps": global_step, "seconds": seconds}
    compare_with_random(policy, arguments, folder, 3 if args.quick else 100, **about)


if __name__ == "__main__":
    main(tyro.cli(Args))
