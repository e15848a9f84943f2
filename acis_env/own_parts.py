"""What users' own decoders and context predictors return, held to what the environment expects of them."""

from __future__ import annotations

import torch
from torch import Tensor

from acis_env.decoder import Conditioning
from acis_env.dynamics import MaskFunction

SLACK = 0.01
"""By how much values may leave [0, 1], as rounded ones do: a bit more than the last digit of bfloat16."""


def check_values(name: str, lowest: Tensor, highest: Tensor) -> None:
    """Make sure that what `name` returned are probabilities; waits for their device.

    Args:
        name: of the argument, for errors.
        lowest: the lowest of the values.
        highest: the highest.

    Raises:
        ValueError: they are not in [0, 1].
    """
    found = float(lowest), float(highest)
    if not (found[0] >= -SLACK and found[1] <= 1 + SLACK):  # so is not-a-number found
        raise ValueError(
            f"{name} must return values in [0, 1], got {found[0]:.3g} to {found[1]:.3g}; is a sigmoid or a division "
            "by 255 missing?"
        )


class WatchedDecoder:
    """A decoder that is not from this package's weights, whose masks are looked at.

    They become float32 in [0, 1], whatever they are. On a CPU they are looked at at once. The host does not wait for
    another device in every step: whoever calls `check` learns about all masks so far.
    """

    def __init__(self, decoder: MaskFunction) -> None:
        self._decoder = decoder
        self._seen: tuple[Tensor, Tensor] | None = None

    def __call__(self, latent: Tensor, conditioning: Conditioning) -> Tensor:
        """The decoder's masks, float32 in [0, 1].

        Raises:
            ValueError: see `check`.
        """
        masks = self._decoder(latent, conditioning).float()
        lowest, highest = masks.detach().aminmax()
        if self._seen is not None:
            lowest, highest = torch.minimum(lowest, self._seen[0]), torch.maximum(highest, self._seen[1])
        self._seen = (lowest, highest)
        if masks.device.type == "cpu":
            self.check()
        return masks.clamp(0, 1)

    def check(self) -> None:
        """Look at the masks since the last check.

        Raises:
            ValueError: they are not in [0, 1].
        """
        seen, self._seen = self._seen, None
        if seen is not None:
            check_values("decoder", *seen)
