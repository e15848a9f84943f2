"""A pre-training that was interrupted: the file from which it goes on, bit by bit as it would have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import nn

from acis_env.checksums import check_seal, sealed
from acis_env.files import replacing

FORMAT = "acis-pretraining-1"
"""Marks a file as that of a pre-training, and the layout of what is in it."""


class Unfinished:
    """The state of a training of one network, in a file that is gone once the training is over."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Name the file.

        Args:
            path: of the file; it need not be there.
            settings: everything that decides the training; the state of one with others is no beginning of it.
        """
        self.path = path
        self._settings = repr(sorted(settings.items()))

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Bring back the state of both; returns the number of iterations that are done, 0 if there is no such state.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.path.is_file():
            return 0
        check_seal(self.path)
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["format"] != FORMAT or content["settings"] != self._settings:
                return 0
            network.load_state_dict(content["network"])
            optimizer.load_state_dict(content["optimizer"])
            return int(content["iteration"])
        except Exception as error:  # torch.load fails in as many ways as a file can be damaged
            raise ValueError(
                f"{self.path}: not the whole state of a pre-training ({type(error).__name__}); without the file it "
                "begins anew"
            ) from error

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, iteration: int) -> None:
        """Write the state after `iteration` iterations; an interruption leaves the state before."""
        content = {
            "format": FORMAT,
            "settings": self._settings,
            "iteration": iteration,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        with replacing(self.path, "state of the pre-training") as unfinished, sealed(unfinished) as file:
            torch.save(content, cast("IO[bytes]", file))

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)
