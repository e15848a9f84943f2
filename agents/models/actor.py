"""The actor: a recurrent convolutional policy over latent codes of masks, and its termination unit.

Araslanov et al., "Actor-Critic Instance Segmentation", CVPR 2019, Fig. 2 and section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from acis_env.configs import MOST_LAYERS, check_sizes
from acis_env.decoder import AutoencoderConfig
from acis_env.encoder import MaskEncoder
from acis_env.networks import FOREGROUND, Trunk
from acis_env.precision import full_precision, to_float32


@dataclass(frozen=True)
class ActorConfig:
    """Sizes of the actor behind its trunk, which has the sizes of the autoencoder's encoder."""

    memory_size: int = 512
    """Width of the LSTM."""
    layers: int = 2
    """Layers of the LSTM."""
    hidden: int = 256
    """Width of the layer before mean and log-variance."""
    termination_hidden: int = 64
    """Width of the layer before the termination logit."""
    skip: bool = True
    """Add a linear path from the trunk's features to the output, by which the actor can start as the encoder."""
    hard_mask: bool = False
    """Read `M_t` rounded to 0 and 1; no gradient flows through it then."""

    def __post_init__(self) -> None:
        check_sizes(self, "memory_size", "hidden", "termination_hidden")
        check_sizes(self, "layers", most=MOST_LAYERS)


class ActorOutput(NamedTuple):
    """What the actor says in one state."""

    mean: Tensor  # [B, l]
    log_variance: Tensor  # [B, l]
    continue_logit: Tensor  # [B], positive = there is something left to segment
    termination_features: Tensor  # [B, r], what the termination unit made that of, without gradient
    memory: Tensor  # [B, 2 * layers, memory_size], h_t and the cell states


class Actor(nn.Module):
    """Gaussian policy `mu(s_t, h_t)` over latent codes.

    Beside the paper's head on the LSTM there is a linear one on the trunk's features, so that the actor can start
    as the autoencoder's encoder (`start_from`).
    """

    def __init__(self, autoencoder: AutoencoderConfig, config: ActorConfig) -> None:
        super().__init__()
        self.config = config
        features, latent_size = autoencoder.encoder.features, autoencoder.latent_size
        self.trunk = Trunk(autoencoder.encoder, autoencoder.size, 1, autoencoder.image_mean, autoencoder.image_std)
        widths = (features, *[config.memory_size] * config.layers)
        self.lstm = nn.ModuleList(nn.LSTMCell(i, o) for i, o in pairwise(widths))
        joint = config.memory_size + features
        self.head = nn.Sequential(
            nn.Linear(joint, config.hidden), nn.LeakyReLU(), nn.Linear(config.hidden, 2 * latent_size)
        )
        self.skip = nn.Linear(features, 2 * latent_size) if config.skip else None
        self.termination = nn.Sequential(
            nn.Linear(joint + 1, config.termination_hidden), nn.LeakyReLU(), nn.Linear(config.termination_hidden, 1)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        if config.skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def device(self) -> torch.device:
        """Where all weights are."""
        return next(self.parameters()).device

    def condition(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """What stays fixed in an episode: the context's share of the first convolution, and the foreground."""
        return self.trunk.condition(context), context[:, FOREGROUND : FOREGROUND + 1]

    def initial_memory(self, batch: int) -> Tensor:
        """`h_1`, all zero: `[B, 2 * layers, memory_size]`."""
        size = (batch, 2 * self.config.layers, self.config.memory_size)
        return next(self.parameters()).new_zeros(size)

    def forward(self, conditioning: tuple[Tensor, Tensor], mask: Tensor, memory: Tensor) -> ActorOutput:
        """The policy in `s_t`: a conditioned context, `M_t` `[B, 1, H, W]` and `h_t`."""
        share, foreground = conditioning
        if self.config.hard_mask:
            mask = (mask >= 0.5).to(mask)
        features = to_float32(self.trunk(share, mask))
        with full_precision(mask.device):
            states: list[Tensor] = []
            x = features
            for layer, cell in enumerate(self.lstm):
                x, c = cell(x, (memory[:, 2 * layer], memory[:, 2 * layer + 1]))
                states += [x, c]
            joint = torch.cat([x, features], dim=1)
            output = self.head(joint) if self.skip is None else self.skip(features) + self.head(joint)
            mean, log_variance = output.chunk(2, dim=1)
            # The unit only reads the state: its loss, whose scale is its own, does not shape the policy.
            uncovered = (foreground * (1 - mask)).sum((1, 2, 3)) / foreground.sum((1, 2, 3)).clamp_min(1)
            termination_features = torch.cat([joint, uncovered[:, None]], dim=1).detach()
            continue_logit = self.continue_logit(termination_features)
        # Wider than the prior there is nothing to explore, and a start without KL term has nothing that says so.
        states_now = torch.stack(states, dim=1)
        return ActorOutput(mean, log_variance.clamp(-10, 0), continue_logit, termination_features, states_now)

    def continue_logit(self, termination_features: Tensor) -> Tensor:
        """The termination unit: logits `[...]` of its features `[..., r]`."""
        logits: Tensor = self.termination(termination_features)
        return logits[..., 0]

    @torch.no_grad()
    def start_from(self, encoder: MaskEncoder) -> None:
        """Become the autoencoder's encoder, reading `foreground - M_t` where that reads the mask of one instance.

        The first convolution is linear, so its weights for the mask move to the foreground and, negated, to `M_t`.
        Everything uncovered then looks like one instance; when one is missing this is its encoding exactly.
        """
        state = encoder.trunk.state_dict()
        state["context_conv.weight"] = state["context_conv.weight"].clone()
        state["context_conv.weight"][:, FOREGROUND] += state["mask_conv.weight"][:, 0]
        state["mask_conv.weight"] = -state["mask_conv.weight"]
        self.trunk.load_state_dict(state)
        assert self.skip is not None
        self.skip.load_state_dict(encoder.head.state_dict())

    def policy_parameters(self) -> list[nn.Parameter]:
        """All parameters but the termination unit's."""
        return [p for name, p in self.named_parameters() if not name.startswith("termination")]
