"""`acis evaluate`: the measures of an agent, or of another library's policy, on a split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from acis_env.datasets import PackedScenes, SceneDataset, open_scenes
from acis_env.networks import check_device
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import load_pretrained
from agents.evaluation.evaluation import Evaluation, agent_segmenter, compare, format_table, write_report
from agents.evaluation.policies import CARD, load_policy, policy_segmenter
from agents.models.agent import Agent
from agents.training.config import JsonObject
from agents.training.trainer import FirstScenes, load_config

Evaluated = tuple[PackedScenes, dict[str, Any], list[Evaluation]]
"""Scenes, what the report says about them and the agent, and the rows of the table."""


@dataclass(frozen=True)
class Evaluate:
    """Measure an agent on a split, beside the references that say what the numbers mean."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or of a policy of another library (see agents.evaluation.policies)."""
    split: str = "val"
    """Part of the scenes to evaluate on: "train", "val" or "test"."""
    scenes: str | None = None
    """Scenes to evaluate on: "leaves" or a folder; by default the run's own."""
    scene_options: JsonObject | None = None
    """Further arguments of the scenes (of `Leaves` or `FolderScenes`); by default the run's, if its scenes are used."""
    num_scenes: int | None = None
    """Number of scenes to evaluate on, from the first; by default all."""
    out: Path | None = None
    """Folder of the report; by default `evaluation-<split>` in the run's."""
    device: str = "cpu"
    """Device to run on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Evaluate, print the table, write the report."""
        check_device(self.device)
        is_policy = (self.run_folder / CARD).exists()
        scenes, about, evaluations = self._evaluate_policy() if is_policy else self._evaluate_run()
        out = self.out or self.run_folder / f"evaluation-{self.split}"
        about = {"run": self.run_folder.name, "split": self.split, **about}
        write_report(out, evaluations, scenes, about)
        title = f"{about['scenes']}, split {self.split}, {len(scenes)} scenes"
        print(f"{title}\n\n{format_table(evaluations)}\n\nreport in {out}")

    def _evaluate_run(self) -> Evaluated:
        agent = Agent.load(self.run_folder, self.device)
        config = load_config(self.run_folder)
        options = config.scene_options if self.split == "train" else config.val_options
        scenes, about = self._open(config.scenes, options, agent.pretrained.size)
        initial = self.run_folder / "initial.pt"
        segmenters = {"initialised": agent_segmenter(Agent.load(initial, self.device))} if initial.exists() else {}
        segmenters["agent"] = agent_segmenter(agent)
        evaluations = compare(segmenters, agent.pretrained, scenes, agent.threshold)
        return scenes, {**about, "config": asdict(config)}, evaluations

    def _evaluate_policy(self) -> Evaluated:
        policy, arguments = load_policy(self.run_folder, self.device)
        options = arguments["scene_options"] or {}
        pretrained = load_pretrained(arguments["weights"]).to(self.device)
        scenes, about = self._open(arguments["scenes"], options, pretrained.size)
        env = SegmentationVectorEnv(**{**arguments, "scenes": scenes.dataset, "weights": pretrained})
        evaluations = compare({"agent": policy_segmenter(policy, env)}, pretrained, scenes, env.threshold)
        return scenes, {**about, "arguments": arguments}, evaluations

    def _open(self, scenes: str, options: dict[str, Any], size: tuple[int, int]) -> tuple[PackedScenes, dict[str, Any]]:
        """The scenes asked for, in place of those given, and what a report says about them."""
        if self.scenes is not None:
            scenes, options = self.scenes, {}
        if self.scene_options is not None:
            options = self.scene_options
        dataset: SceneDataset = open_scenes(scenes, self.split, size, options)
        if self.num_scenes is not None:
            dataset = FirstScenes(dataset, self.num_scenes)
        return PackedScenes(dataset, size, self.device), {"scenes": scenes, "options": dict(options)}
