"""`acis train`: a run by a named preset, in one process or in several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from agents.algorithms.distributed import join_group
from agents.environment import EnvConfig, JsonObject
from agents.training.config import TrainConfig
from agents.training.presets import PRESETS
from agents.training.trainer import Trainer, load_config

if TYPE_CHECKING:
    Preset = TrainConfig
else:
    Preset = tyro.extras.subcommand_type_from_defaults(PRESETS, prefix_names=False)


@dataclass(frozen=True)
class Train:
    """Train an agent by a named preset, any field of which can be overridden; or resume a run."""

    config: Annotated[Preset, tyro.conf.arg(name="")] = PRESETS["quick"]
    """Preset and overrides; ignored with --resume."""
    scenes: str | None = None
    """Scenes to train on: "leaves", another registered data set, or a folder of `<id>_rgb.png` and `<id>_label.png`
    with subfolders train and val. With --resume, where the scenes of the run are now."""
    scene_options: JsonObject | None = None
    """Further arguments of the scenes (of `Leaves` or `FolderScenes`)."""
    weights: str | None = None
    """Pre-trained networks: a bundled name or a folder. With --resume, where those of the run are now."""
    env_options: JsonObject | None = None
    """Further keyword arguments of the environment, added to those of the preset, such as '{"score": "iou"}'."""
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
        config = self.resolved() if self.resume is None else load_config(self.resume)
        with join_group(config.device) as group:
            if self.resume is None:
                trainer = Trainer(config, self.out, group=group)
            else:
                trainer = Trainer.resume(self.resume, group=group, scenes=self.scenes, weights=self.weights)
            if group.is_main:
                print(f"run folder {trainer.folder}, from iteration {trainer.iteration}")
            trainer.run()
            if group.is_main:
                print(f"done: evaluate with `acis evaluate {trainer.folder}`")

    def resolved(self) -> TrainConfig:
        """The preset with all overrides."""
        named = {"scenes": self.scenes, "scene_options": self.scene_options, "weights": self.weights}
        changes = {name: value for name, value in named.items() if value is not None} | (self.env_options or {})
        env: EnvConfig = self.config.env.having(**changes)
        if self.scenes is not None and env.id == EnvConfig.id:
            env = replace(env, id="ACIS/Scenes-v0", kwargs={"weights": "leaves-64", **env.kwargs})
        return replace(self.config, env=env.absolute())
