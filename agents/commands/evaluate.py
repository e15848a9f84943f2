"""`acis evaluate`: the measures of an agent, or of another library's policy, on a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from acis_env.configs import check_at_least
from acis_env.datasets.registry import DATASETS, PREFIX
from acis_env.episode_source import EpisodeSource
from acis_env.folders import claimed
from acis_env.networks import check_device
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import load_pretrained
from agents.algorithms.base import VectorEnv, core_of
from agents.environment import EnvConfig, JsonObject
from agents.evaluation import (
    Evaluation,
    Segmenter,
    agent_segmenter,
    compare,
    format_table,
    load_policy,
    policy_segmenter,
    write_report,
)
from agents.evaluation.classical import WATERSHED, is_available, tune
from agents.evaluation.evaluation import Foreground
from agents.evaluation.policy_files import CARD
from agents.evaluation.rules import candidate_rules, choose_rule, format_rules, measure_rules
from agents.evaluation.variants import Variant
from agents.models.agent import Agent
from agents.models.composition import Composition
from agents.models.outcomes import choose_among
from agents.training.warm_start import config_of

Evaluated = tuple[EpisodeSource, dict[str, Any], list[Evaluation]]
"""Scenes, what the report says about them and the agent, and the rows of the table."""


@dataclass(frozen=True)
class Evaluate:
    """Measure an agent on a split, beside the references that say what the numbers mean."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or of a policy of another library that agents.evaluation has saved; or the name of an agent that
    comes with the package, such as leaves-64, with --scenes and --out."""
    split: str = "val"
    """Part of the scenes to evaluate on: "train", "val" or "test"."""
    scenes: str | None = None
    """Scenes to evaluate on: "leaves", another registered data set, or a folder; by default the run's own. Where those
    are no longer in their folder, this is taken for the place that they have moved to."""
    scene_options: JsonObject | None = None
    """Further arguments of the scenes (of `Leaves` or `FolderScenes`); by default the run's, if its scenes are used."""
    root: Path | None = None
    """Folder of the data of a registered data set, such as CVPPP; by default that of the run, if its scenes are used,
    or that in its environment variable, such as ACIS_CVPPP_ROOT."""
    num_scenes: int | None = None
    """Number of scenes to evaluate on, from the first; by default all."""
    variant: tuple[Variant, ...] = ()
    """Published scripts whose measures are added to the table, such as "codalab.best_dice": "codalab", "lsc-matlab" or
    "e2e", several apart by spaces (see acis_env.metric_variants)."""
    preprocessing: str | None = None
    """How pictures become those of the networks' size: "squeeze", "shorter-side", "halve-crop", "tile" or "tile:SCALE";
    by default as in the training."""
    fill: float | Literal["chosen"] | None = None
    """Distance in pixels, at the size of the networks, up to which predicted foreground that no mask holds goes to the
    nearest one, in all rows; "chosen": overlaps and filling by the rule that serves the agent best on training scenes;
    by default the agent's own."""
    foreground: Foreground = "none"
    """Foreground to which all label maps are cut: "none", or the "official" one that the data set gives."""
    episodes: int | None = None
    """Number of episodes that the agent chooses from, if it does so; by default its own."""
    out: Path | None = None
    """Folder of the report; by default `evaluation-<split>` in the run's."""
    device: str = "cpu"
    """Device to run on: "cpu" or "cuda"."""
    trust: bool = False
    """Load a policy of another library, whose files can hold code that runs here; runs of `acis train` need none of
    it."""

    def run(self) -> None:
        """Evaluate, print the table, write the report."""
        check_device(self.device)
        check_at_least(1, self, "num_scenes")
        # A run of ours stays one, whatever lies beside its agent.
        is_policy = (self.run_folder / CARD).exists() and not (self.run_folder / "agent.pt").exists()
        source, about, evaluations = self._evaluate_policy() if is_policy else self._evaluate_run()
        out = self.out or self.run_folder / f"evaluation-{self.split}"
        with claimed(out):
            write_report(out, evaluations, source, {"run": self.run_folder.name, "split": self.split, **about})
        title = f"{about['scenes']}, split {self.split}, {len(evaluations[0].scenes)} scenes"
        print(f"{title}\n\n{format_table(evaluations)}\n\nreport in {out}")

    def _check_named(self) -> None:
        """Make sure that an agent without a run is given what its run would have said.

        Raises:
            ValueError: naming the missing arguments.
        """
        given = {"--scenes": self.scenes, "--out": self.out}
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise ValueError(
                f"{self.run_folder} has no run, whose scenes and folder it could use: give {' and '.join(missing)}"
            )

    def _evaluate_run(self) -> Evaluated:
        if self.run_folder.is_file() and self.out is None:
            raise ValueError(
                f"{self.run_folder} is a file: give --out, or the folder of its run, {self.run_folder.parent}"
            )
        agent = Agent.load(self.run_folder, self.device)
        agent.outcomes = choose_among(agent.outcomes, self.episodes, self.run_folder)
        config = config_of(agent)
        if agent.folder is None or not (agent.folder / "config.json").is_file():
            self._check_named()
        changes = self._changes(config.env.kwargs.get("scenes"))
        if self.preprocessing is None and "preprocessing" not in config.env.val_kwargs:
            changes["preprocessing"] = agent.preprocessing.name  # whatever the protocol of other scenes says
        core = core_of(config.env.make_evaluation(self.split, weights=agent.pretrained, **changes))
        training = partial(config.env.make_evaluation, "train", weights=agent.pretrained, **changes)
        segmenters = _watershed(training)
        initial = (agent.folder or self.run_folder) / "initial.pt"
        if initial.exists():
            segmenters["initialised"] = agent_segmenter(Agent.load(initial, self.device))
        segmenters["agent"] = agent_segmenter(agent)
        rule = self._rule(agent.composition, segmenters["agent"], training)
        about = {**_about(core.arguments), "config": asdict(config)}
        if agent.outcomes is not None:
            about["episodes"] = agent.outcomes.config.episodes
        return core.source, about, self._compare(segmenters, core, rule)

    def _evaluate_policy(self) -> Evaluated:
        if self.episodes is not None:
            raise ValueError(f"--episodes is for agents of acis train, and {self.run_folder} is of another library")
        policy, arguments = load_policy(self.run_folder, self.device, trust=self.trust)
        if not all(isinstance(arguments.get(name), str) for name in ("scenes", "weights")):
            raise ValueError(f"{self.run_folder / CARD}: arguments must name scenes and weights, got {arguments}")
        pretrained = load_pretrained(arguments["weights"]).to(self.device)
        kept = {name: value for name, value in arguments.items() if name != "num_envs"}
        recipe = EnvConfig("ACIS/Scenes-v0", {**kept, "weights": pretrained, "render_mode": None})
        changes = self._changes(kept.get("scenes"))
        core = core_of(recipe.make_evaluation(self.split, **changes))
        training = partial(recipe.make_evaluation, "train", **changes)
        segmenters = _watershed(training)
        segmenters["agent"] = policy_segmenter(policy, core)
        rule = self._rule(Composition(core.threshold), segmenters["agent"], training)
        rows = self._compare(segmenters, core, rule)
        return core.source, {**_about(core.arguments), "arguments": arguments}, rows

    def _rule(self, own: Composition, segmenter: Segmenter, training: Callable[[], VectorEnv]) -> Composition:
        """The agent's own rule, or what is asked for; `training` makes the environment of the training scenes."""
        if self.fill != "chosen":
            return own if self.fill is None else replace(own, fill=self.fill)
        measured = measure_rules({"agent": segmenter}, core_of(training()).source, candidate_rules(own))
        rule = choose_rule(measured)
        print(
            f"SBD on training scenes\n{format_rules(measured)}\nchosen: overlaps {rule.overlaps}, fill {rule.fill:g}\n"
        )
        return rule

    def _compare(
        self, segmenters: Mapping[str, Segmenter], core: SegmentationVectorEnv, rule: Composition
    ) -> list[Evaluation]:
        assert core.pretrained is not None
        return compare(
            segmenters,
            core.pretrained,
            core.source,
            rule,
            num_scenes=self.num_scenes,
            action_scale=core.action_scale,
            foreground=self.foreground,
            variants=self.variant,
        )

    def _changes(self, own_scenes: str | None) -> dict[str, Any]:
        """Keyword arguments of the environment that are asked for in place of the run's own."""
        changes: dict[str, Any] = {"device": self.device}
        if self.preprocessing is not None:
            changes["preprocessing"] = self.preprocessing
        if self.scenes is not None:
            changes["scenes"] = self.scenes
            if has_moved(own_scenes):
                print(f"{own_scenes} is gone: {self.scenes} takes its place, with the scene options of the run")
            else:
                changes |= {"scene_options": None, "root": None}
        if self.scene_options is not None:
            changes["scene_options"] = self.scene_options
        if self.root is not None:
            changes["root"] = self.root
        return changes


def _watershed(training: Callable[[], VectorEnv]) -> dict[str, Segmenter]:
    """The row of the watershed, tuned on the training scenes beside those that are evaluated, if that can be done."""
    if not is_available():
        print("no row of the watershed: scikit-image is not installed (pip install 'acis-env[benchmark]')")
        return {}
    try:
        source = core_of(training()).source
    except FileNotFoundError as error:
        print(f"no row of the watershed, which is tuned on training scenes: {error}")
        return {}
    return {"watershed": tune(WATERSHED, source).segmenter}


def has_moved(scenes: str | None) -> bool:
    """Whether `scenes` were in a folder that is no longer there."""
    is_name = scenes is None or scenes.removeprefix(PREFIX) in DATASETS
    return not is_name and not Path(str(scenes)).exists()


def _about(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of the scenes of an environment."""
    return {"scenes": str(arguments["scenes"]).removeprefix(PREFIX), "options": dict(arguments["scene_options"] or {})}
