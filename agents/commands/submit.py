"""`acis submit`: predictions of an agent in the form that a benchmark takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from acis_env.configs import check_at_least, check_keywords
from acis_env.datasets import CvpppScenes, KittiScenes, Scene
from acis_env.meter import metered
from acis_env.networks import check_device
from agents.environment import JsonObject
from agents.evaluation.submissions import write_cvppp_submission, write_label_pngs
from agents.models.agent import Agent

MOST_LEAVES = 40
"""Cap on masks in the subsets other than A1, where plants have up to 32 leaves; the published one, 21, is of A1."""


@dataclass(frozen=True)
class Submit:
    """Segment the test images of a benchmark, at their own size, and write the label maps as it takes them.

    "cvppp": one HDF5 file with the subsets A1 to A5, as the server of the Leaf Segmentation Challenge took it. "kitti":
    a folder of 8-bit label maps, named as those of the layout of the data. The agent decides by itself when to stop.
    What was written is read back and checked; after an error there is nothing.
    """

    benchmark: Annotated[Literal["cvppp", "kitti"], tyro.conf.Positional]
    """Benchmark to submit to."""
    agent: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or a file `agent.pt`."""
    out: Path
    """File (cvppp) or folder (kitti) to write; nothing may be there."""
    root: Path | None = None
    """Folder of the data; by default that in the environment variable ACIS_CVPPP_ROOT or ACIS_KITTI_ROOT."""
    split: str = "test"
    """Part of the data to segment."""
    subsets: tuple[str, ...] | None = None
    """Subsets of CVPPP to segment, such as A1 A5; by default all that are there. The others stay empty."""
    scene_options: JsonObject = field(default_factory=dict)
    """Further arguments of the scenes (of `CvpppScenes` or `KittiScenes`), such as '{"incomplete": true}'."""
    foreground: Literal["none", "official"] = "none"
    """Foreground to which the label maps are cut: "none", or the "official" one that CVPPP gives for test images,
    too."""
    max_steps: int | None = None
    """Largest number of instances per image; by default the agent's, but 40 in subsets of CVPPP other than A1."""
    device: str = "cpu"
    """Device to run on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Segment, write and check.

        Raises:
            FileNotFoundError: the agent or the data are missing.
            ValueError: an option does not belong to the benchmark, something is at `out` already, or a label map has
                more instances than 8 bits can hold.
        """
        check_device(self.device)
        check_at_least(1, self, "max_steps")
        if self.out.exists():
            raise ValueError(f"--out {self.out} exists: choose another place, since a submission replaces nothing")
        scenes = self._scenes()
        agent = Agent.load(self.agent, self.device)
        capped: list[str] = []
        predictions = self._predictions(agent, scenes, capped)
        if isinstance(scenes, CvpppScenes):
            counts = write_cvppp_submission(self.out, predictions)
        else:
            counts = write_label_pngs(self.out, predictions, scenes.label_suffix)
        print(
            f"{self.out}: {len(counts)} label maps of split {self.split!r} with {np.mean(list(counts.values())):.1f} "
            f"instances on average, read back and checked; stopping: own, {len(capped)} by the cap on masks; "
            f"foreground: {self.foreground}"
        )

    def _scenes(self) -> CvpppScenes | KittiScenes:
        options: dict[str, Any] = {"root": self.root, **self.scene_options, "split": self.split}
        loader: type[CvpppScenes | KittiScenes] = CvpppScenes if self.benchmark == "cvppp" else KittiScenes
        check_keywords(f"scene options of {self.benchmark!r}", loader, options)
        if self.benchmark == "cvppp":
            return CvpppScenes(**{"subsets": self.subsets, **options})
        for name, value, default in (("subsets", self.subsets, None), ("foreground", self.foreground, "none")):
            if value != default:
                raise ValueError(f"--{name} {value} belongs to cvppp: leave it out, since kitti has none")
        return KittiScenes(**options)

    def _predictions(
        self, agent: Agent, scenes: CvpppScenes | KittiScenes, capped: list[str]
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Names and label maps of all scenes; `capped` gets the names of those that the agent did not stop itself."""
        for scene in metered(scenes, "segmenting", len(scenes)):
            result = agent.segment(scene.image, self._cap(agent, scene))
            if not result.stopped:
                capped.append(scene.name)
            label_map = result.label_map
            if self.foreground == "official":
                if scene.foreground is None:
                    raise ValueError(f"{scene.name} has no official foreground: pass --foreground none")
                label_map = np.where(scene.foreground, label_map, 0)
            yield scene.name, label_map

    def _cap(self, agent: Agent, scene: Scene) -> int:
        """Most masks of an image."""
        if self.max_steps is not None:
            return self.max_steps
        is_other = self.benchmark == "cvppp" and not scene.name.startswith("A1/")
        return max(agent.max_steps, MOST_LEAVES) if is_other else agent.max_steps
