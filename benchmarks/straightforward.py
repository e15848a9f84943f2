"""The implementation that one writes from the paper, without looking at the cost: what the project is compared with.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019. Each part computes what the project's own part
does, to rounding:

- the decoder rebuilds the State Pyramid in every call, and convolves the concatenation of features and context;
- the actor convolves all 13 channels in every step;
- the ground truth is one dense float32 mask per instance, all of which are multiplied with every prediction;
- all predictions are assigned from scratch, by scipy, in every step;
- an environment holds one scene, and others make a vector of it (Gymnasium's SyncVectorEnv, SB3's DummyVecEnv);
- in training, every scene of a batch runs as long as the longest.

On a CPU batches run scene by scene: larger tensors spend their time on page faults, which would flatter us.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from acis_env.autoencoder import kl_to_prior
from acis_env.datasets import Scene
from acis_env.decoder import MaskDecoder
from acis_env.metrics import segmentation_metrics
from acis_env.networks import ANGLE_BINS, CONTEXT_CHANNELS, FOREGROUND, IMAGE_CHANNELS, Trunk
from acis_env.weights import Pretrained
from agents.algorithms import BaselineConfig
from agents.models.actor import Actor
from agents.training.config import TrainConfig


class NaiveDecoder(nn.Module):
    """`MaskDecoder` with the same weights; knows of no conditioning."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        config, weights = decoder.config, decoder.state_dict()
        stages = len(config.decoder_widths)
        self.state_pyramid = config.state_pyramid
        self.coarse = (config.bottleneck_channels, config.size[0] >> stages, config.size[1] >> stages)
        self.hidden, self.expand = copy.deepcopy(decoder.hidden), copy.deepcopy(decoder.expand)
        joints = [_joint_conv(weights, f"convs.{stage}", f"context_convs.{stage}") for stage in range(stages)]
        self.convs = nn.ModuleList(joints)
        self.head = _joint_conv(weights, "head", "context_head")
        self.normalise = _Normalise(weights)
        self.kernel = nn.Parameter(weights["pyramid.kernel"].clone())
        self.to(self.kernel.device).requires_grad_(False)

    def forward(self, latent: Tensor, context: Tensor) -> Tensor:
        """Soft masks `[B, 1, H, W]` of `latent` `[B, l]` and `context` `[B, 12, H, W]` in [0, 1]."""
        return _scene_by_scene(self._decode, latent, context)

    def _decode(self, latent: Tensor, context: Tensor) -> Tensor:
        levels = [self.normalise(context) if self.state_pyramid else torch.zeros_like(context)]
        for _ in self.convs:
            levels.append(F.conv2d(levels[-1], self.kernel, stride=2, padding=1, groups=CONTEXT_CHANNELS))
        x = F.leaky_relu(self.expand(F.leaky_relu(self.hidden(latent)))).view(-1, *self.coarse)
        for conv, level in zip(self.convs, levels[:0:-1], strict=True):
            x = F.interpolate(torch.cat((x, level), dim=1), scale_factor=2, mode="nearest")
            x = F.leaky_relu(conv(F.pad(x, (1, 1, 1, 1), mode="replicate")))
        return torch.sigmoid(self.head(torch.cat((x, levels[0]), dim=1)))


class NaiveTrunk(nn.Module):
    """`Trunk` with the same weights, over context and mask together."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        weights, stride = trunk.state_dict(), trunk.context_conv.stride[0]
        first = _joint_conv(weights, "context_conv", "mask_conv", stride, padding=1)
        others = [
            _conv(weights[f"convs.{i}.weight"], weights[f"convs.{i}.bias"], stride, padding=1)
            for i in range(len(trunk.convs))
        ]
        self.convs = nn.ModuleList([first, *others])
        self.pool: nn.Module = nn.MaxPool2d(2) if stride == 1 else nn.Identity()
        self.linear = copy.deepcopy(trunk.linear)
        self.normalise = _Normalise(weights)

    def condition(self, context: Tensor) -> Tensor:
        """Nothing is known in advance."""
        return context

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        """Features `[B, F]` of `context` `[B, 12, H, W]` and `mask` `[B, 1, H, W]`, both in [0, 1]."""
        return _scene_by_scene(self._features, context, mask)

    def _features(self, context: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat((self.normalise(context), mask), dim=1)
        for conv in self.convs:
            x = self.pool(torch.relu(conv(x)))
        return F.leaky_relu(self.linear(x.flatten(1)))


def naive_actor(actor: Actor) -> Actor:
    """A copy of `actor` on a straightforward trunk."""
    naive = copy.deepcopy(actor)
    naive.trunk = NaiveTrunk(actor.trunk).to(actor.device)  # type: ignore[assignment]
    return naive


def dense_masks(label_map: Tensor, num_instances: int) -> Tensor:
    """One mask per instance, `[..., N, H, W]` in {0, 1}, of label maps `[..., H, W]`."""
    labels = torch.arange(1, num_instances + 1, device=label_map.device)
    return (label_map[..., None, :, :] == labels[:, None, None]).float()


def dense_scores(mask: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice `[..., N]` of a mask `[..., H, W]` with the instances `[..., N, H, W]`; zero against padding."""
    overlap = (targets * mask[..., None, :, :]).sum((-2, -1))
    areas = targets.sum((-2, -1))
    return 2 * overlap / (mask.sum((-2, -1))[..., None] + areas).clamp_min(1e-6)


def best_assignment(scores: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Predictions, their instances and the total score of the best assignment of `scores` `[T, N]`, from scratch."""
    host = scores.numpy(force=True)
    rows, columns = linear_sum_assignment(host, maximize=True)
    return rows, columns, float(host[rows, columns].sum())


class NaiveEnv(gym.Env[dict[str, NDArray[np.uint8]], NDArray[np.float32]]):
    """One scene at a time: the default environment without augmentation, with the same draws for the same seed."""

    def __init__(
        self, scenes: Sequence[Scene], pretrained: Pretrained, decoder: NaiveDecoder, action_scale: float = 3.0
    ) -> None:
        """Take the scenes, which have the size of the networks, and the networks.

        Raises:
            ValueError: a scene has another size.
        """
        for scene in scenes:
            if scene.image.shape[1:] != pretrained.size:
                raise ValueError(f"scenes must be {pretrained.size}, got {scene.image.shape[1:]} for {scene.name}")
        self.scenes, self.decoder, self.action_scale = scenes, decoder, action_scale
        self.context_network = pretrained.context_network
        self.device = decoder.kernel.device
        channels = {"image": IMAGE_CHANNELS, "mask": 1, "foreground": 1, "angles": ANGLE_BINS}
        self.observation_space: gym.spaces.Space[Any] = gym.spaces.Dict(
            {name: gym.spaces.Box(0, 255, (n, *pretrained.size), np.uint8) for name, n in channels.items()}
        )
        self.action_space = gym.spaces.Box(-1, 1, (pretrained.autoencoder.config.latent_size,), np.float32)

    @torch.no_grad()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
        """Begin an episode; `options={"scene_index": i}` chooses its scene."""
        super().reset(seed=seed)
        chosen = (options or {}).get("scene_index")
        scene = self.scenes[int(self.np_random.integers(len(self.scenes)) if chosen is None else chosen)]
        image = torch.from_numpy(scene.image).to(self.device)
        self.context = self.context_network.context(image[None])
        self.label_map = scene.require_label_map()
        self.targets = dense_masks(torch.from_numpy(self.label_map).to(self.device), scene.num_instances)
        self.accumulated_mask = torch.zeros_like(self.context[:, :1])
        self.masks: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.potential = 0.0
        planes = _to_uint8(self.context[0])
        self.fixed_planes = {
            "image": planes[:IMAGE_CHANNELS],
            "foreground": planes[FOREGROUND : FOREGROUND + 1],
            "angles": planes[FOREGROUND + 1 :],
        }
        return self._observation(), self._info()

    @torch.no_grad()
    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.uint8]], float, bool, bool, dict[str, Any]]:
        """Add one mask; the episode ends after as many steps as there are instances."""
        latent = torch.as_tensor(action, device=self.device).clamp(-1, 1) * self.action_scale
        mask = self.decoder(latent[None], self.context)
        self.masks.append(mask[0, 0])
        self.scores.append(dense_scores(mask[0, 0], self.targets))
        _, _, potential = best_assignment(torch.stack(self.scores))
        reward, self.potential = potential - self.potential, potential
        self.accumulated_mask = torch.maximum(self.accumulated_mask, mask)
        terminated = len(self.scores) >= len(self.targets)
        info = self._info()
        if terminated:
            masks = torch.stack(self.masks).numpy(force=True)
            info |= segmentation_metrics(hard_label_map(masks), self.label_map)
        return self._observation(), reward, terminated, False, info

    def _observation(self) -> dict[str, NDArray[np.uint8]]:
        fixed = {name: planes.copy() for name, planes in self.fixed_planes.items()}
        return {**fixed, "mask": _to_uint8(self.accumulated_mask[0])}

    def _info(self) -> dict[str, Any]:
        return {"potential": self.potential, "step_count": len(self.scores), "num_instances": len(self.targets)}


class NaiveLearner:
    """The updates of the preset `bl-trunc-dice` in batches of dense masks."""

    def __init__(self, actor: Actor, decoder: MaskDecoder, config: TrainConfig) -> None:
        """Start from the weights of `actor`."""
        self.actor, self.decoder, self.config = naive_actor(actor), NaiveDecoder(decoder), config
        self.termination = list(self.actor.termination.parameters())
        self.policy = self.actor.policy_parameters()
        self.policy_optimizer = torch.optim.Adam(self.policy)
        self.termination_optimizer = torch.optim.Adam(self.termination, config.learner.termination_learning_rate)

    def update(self, context: Tensor, label_maps: Tensor, algorithm: BaselineConfig) -> Tensor:
        """One step of actor and termination unit; returns the objective before it.

        Args:
            context: `[B, 12, H, W]` in [0, 1].
            label_maps: `[B, H, W]`, integers.
            algorithm: gives learning rate, KL weight and largest norm of the gradient.
        """
        counts = label_maps.flatten(1).amax(1).long()
        longest = int(counts.max())
        targets = dense_masks(label_maps, longest)
        mask, memory = torch.zeros_like(context[:, :1]), self.actor.initial_memory(len(context))
        scores, divergences, features = [], [], []
        for t in range(longest + 1):
            out = self.actor(self.actor.condition(context), mask, memory)
            features.append(out.termination_features)
            if t == longest:
                break
            predicted = self.decoder(out.mean, context)
            scores.append(dense_scores(predicted[:, 0], targets))
            divergences.append(kl_to_prior(out.mean, out.log_variance))
            mask, memory = torch.maximum(mask, predicted.detach()), out.memory.detach()  # one-step BPTT
        is_taken = torch.arange(longest, device=counts.device)[:, None] < counts  # [T, B]
        objective = _assigned_scores(torch.stack(scores, dim=1), counts).sum() / counts.sum()
        divergence = torch.stack(divergences)[is_taken].mean()
        self.policy_optimizer.param_groups[0]["lr"] = algorithm.learning_rate
        loss = algorithm.kl_weight * divergence - objective
        _descend(loss, self.policy_optimizer, self.policy, algorithm.clip_norm)
        self._update_termination(torch.stack(features), counts)
        return objective.detach()

    def _update_termination(self, features: Tensor, counts: Tensor) -> None:
        steps = torch.arange(len(features), device=counts.device)[:, None]
        is_visited = steps <= counts  # [T + 1, B]
        visited, goes_on = features[is_visited], (steps < counts)[is_visited].float()
        for _ in range(self.config.learner.termination_updates):
            loss = F.binary_cross_entropy_with_logits(self.actor.continue_logit(visited), goes_on)
            _descend(loss, self.termination_optimizer, self.termination, 1.0)


@torch.no_grad()
def segment(actor: Actor, decoder: NaiveDecoder, context: Tensor, num_masks: int) -> NDArray[np.int32]:
    """Label map `[H, W]` of `num_masks` predictions in one `context` `[1, 12, H, W]`."""
    mask, memory, masks = torch.zeros_like(context[:, :1]), actor.initial_memory(1), []
    for _ in range(num_masks):
        out = actor(actor.condition(context), mask, memory)
        predicted, memory = decoder(out.mean, context), out.memory
        mask = torch.maximum(mask, predicted)
        masks.append(predicted[0, 0])
    return hard_label_map(torch.stack(masks).numpy(force=True))


def hard_label_map(masks: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.int32]:
    """Label map `[H, W]` of soft masks `[T, H, W]`: the largest mask of a pixel has it, if it reaches `threshold`."""
    return np.where(masks.max(0) >= threshold, masks.argmax(0) + 1, 0).astype(np.int32)


class _Normalise(nn.Module):
    """Shifts and scales the image channels of a context."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("mean", weights["normalise.mean"].clone())
        self.register_buffer("std", weights["normalise.std"].clone())

    def forward(self, context: Tensor) -> Tensor:
        return (context - self.mean) / self.std


def _assigned_scores(scores: Tensor, counts: Tensor) -> Tensor:
    """Total score `[B]` of the best assignment of `scores` `[B, T, N]`, differentiable."""
    totals = []
    for scene, count in zip(scores, counts.tolist(), strict=True):
        rows, columns, _ = best_assignment(scene[:count, :count])
        totals.append(scene[rows, columns].sum())
    return torch.stack(totals)


def _scene_by_scene(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """`function` of batches `[B, ...]`: one call per scene on a CPU, one call in all on a GPU."""
    if batches[0].is_cuda or len(batches[0]) == 1:
        return function(*batches)
    return torch.cat([function(*scene) for scene in zip(*(batch.split(1) for batch in batches), strict=True)])


def _conv(weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution in PyTorch's default layout."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
    conv.load_state_dict({"weight": weight, "bias": bias})
    return conv


def _joint_conv(weights: Mapping[str, Tensor], first: str, second: str, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """The convolution of concatenated inputs that is the sum of two; one of them has the bias."""
    weight = torch.cat((weights[f"{first}.weight"], weights[f"{second}.weight"]), dim=1)
    bias = next(weights[f"{name}.bias"] for name in (first, second) if f"{name}.bias" in weights)
    return _conv(weight, bias, stride, padding)


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()


def _to_uint8(planes: Tensor) -> NDArray[np.uint8]:
    return (planes * 255).round().to(torch.uint8).numpy(force=True)
