"""A job of `acis benchmark`: keep some of the evaluated scenes, for the pictures of a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from acis_env.datasets import open_scenes
from acis_env.files import write_json
from acis_env.weights import load_pretrained
from agents.benchmark.folder import FolderAgent
from agents.experiments.methods import SceneSet
from agents.experiments.provenance import origin
from agents.experiments.scenes import pictured, write_arrays


@dataclass(frozen=True)
class Pictured:
    """The job of keeping scenes of a set."""

    folder: Path
    scene_set: SceneSet
    weights: str
    """Networks that say how large scenes are drawn."""
    agent: FolderAgent | None = None
    """An agent whose own networks say so instead, where none is compared that has those of the set."""

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"scenes of {self.scene_set.name}"

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the result, but where the scenes are."""
        place = f"set {self.scene_set.name}"
        options = {"val_options": {k: v for k, v in self.scene_set.val_options.items() if k != "root"}}
        return {"scenes": place, "split": self.scene_set.split, **options}

    @property
    def result(self) -> Path:
        """File that is written at the very end."""
        return self.folder / "scenes.json"

    @property
    def is_done(self) -> bool:
        """Whether the result is there."""
        return self.result.exists()

    @property
    def is_resumable(self) -> bool:
        """The folder is that of the cells, and there is nothing to resume."""
        return False

    def run(self) -> None:
        """Write `scenes.npz`, and what scenes they are."""
        size = load_pretrained(self.weights).size if self.agent is None else self.agent.size
        scenes = open_scenes(self.scene_set.scenes, self.scene_set.split, size, self.scene_set.val_options)
        kept: dict[str, NDArray[Any]] = {}
        for index in pictured(len(scenes)):
            scene = scenes[index]
            kept |= {f"image-{index}": scene.image, f"truth-{index}": scene.require_label_map()}
        write_arrays(self.folder / "scenes.npz", kept)
        about = {"size": list(size), "num_scenes": len(scenes)}
        write_json(self.result, {"configuration": self.configuration, **origin(self.folder), **about})
