"""`acis train`: a run by a named preset, in one process or in several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from agents.algorithms.distributed import join_group
from agents.training.config import PRESETS, TrainConfig
from agents.training.trainer import Trainer

if TYPE_CHECKING:
    Preset = TrainConfig
else:
    Preset = tyro.extras.subcommand_type_from_defaults(PRESETS, prefix_names=False)


@dataclass(frozen=True)
class Train:
    """Train an agent by a named preset, any field of which can be overridden; or resume a run."""

    config: Annotated[Preset, tyro.conf.arg(name="")] = PRESETS["bl-score"]
    """Preset and overrides; ignored with --resume."""
    out: Path = Path("runs/latest")
    """Folder of the run."""
    resume: Path | None = None
    """Continue the run in this folder from its last checkpoint."""

    def run(self) -> None:
        """Train to the end of the schedule.

        Raises:
            ValueError: `out` holds a run already.
        """
        if self.resume is None and (self.out / "checkpoint.pt").exists():
            raise ValueError(
                f"--out {self.out} holds a run already: choose another folder, or pass --resume {self.out}"
            )
        with join_group() as group:
            if self.resume is None:
                trainer = Trainer(self.config, self.out, group=group)
            else:
                trainer = Trainer.resume(self.resume, group)
            if group.is_main:
                print(f"run folder {trainer.folder}, from iteration {trainer.iteration}")
            trainer.run()
            if group.is_main:
                print(f"done: evaluate with `acis evaluate {trainer.folder}`")
