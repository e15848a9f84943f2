"""Instance segmentation as a sequential decision process: pre-train, train, evaluate and use an agent."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from PIL import Image, UnidentifiedImageError

from acis_env.allocator import keep_freed_memory
from acis_env.context import ContextConfig
from acis_env.datasets import PackedScenes, SceneDataset, open_scenes
from acis_env.decoder import AutoencoderConfig
from acis_env.files import replacing
from acis_env.networks import TrunkConfig, check_device
from acis_env.pretraining import PretrainConfig, image_statistics, pretrain_autoencoder, pretrain_context
from acis_env.rendering import Picture, overlay, write_png
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.weights import load_context_network, load_pretrained
from agents.algorithms.distributed import join_group
from agents.commands.quickstart import ITERATIONS, quickstart
from agents.evaluation.evaluation import Evaluation, agent_segmenter, compare, format_table, write_report
from agents.evaluation.policies import CARD, load_policy, policy_segmenter
from agents.experiments.reproduce import FailedRunsError, Reproduce
from agents.models.agent import Agent
from agents.training.config import PRESETS, JsonObject, TrainConfig
from agents.training.trainer import FirstScenes, Trainer, load_config

SMALL_TRUNK = TrunkConfig(widths=(24, 32, 48, 64), features=256, downsample="stride")
SMALL = AutoencoderConfig(decoder_widths=(64, 48, 32, 16), bottleneck_channels=32, encoder=SMALL_TRUNK)
"""A fraction of the paper's cost per mask, for small pictures and CPUs."""

if TYPE_CHECKING:
    Preset = TrainConfig
else:
    Preset = tyro.extras.subcommand_type_from_defaults(PRESETS, prefix_names=False)


@dataclass(frozen=True)
class Quickstart:
    """Train an agent on the bundled leaves in a few minutes, and show what it learned."""

    out: Path = Path("quickstart")
    """Folder of the run, its pictures and its table."""
    seed: int = 0
    """Of everything random."""
    iterations: int = ITERATIONS
    """Length of the main phase."""
    test_scenes: int = 100
    """Held-out scenes in the final table."""
    device: str = "cpu"
    """Where to train."""

    def run(self) -> None:
        """Train, evaluate, draw."""
        quickstart(self.out, self.seed, self.iterations, self.test_scenes, self.device)


@dataclass(frozen=True)
class Pretrain:
    """Train the networks around the actions on single instances: first "context", then "decoder"."""

    network: Annotated[Literal["context", "decoder"], tyro.conf.Positional]
    """"context" predicts foreground and angles; "decoder" is the mask autoencoder, which needs the former."""
    out: Path
    """Folder of the weights; holds both networks in the end."""
    config: Annotated[PretrainConfig, tyro.conf.arg(name="")] = PretrainConfig()
    """How to train."""
    scenes: str = "leaves"
    """"leaves", or a folder with subfolders train and val of `<id>_rgb.png` and `<id>_label.png`."""
    scene_options: JsonObject = field(default_factory=dict)
    """Further arguments of `Leaves` or `FolderScenes`."""
    val_options: JsonObject = field(default_factory=dict)
    """Likewise of the validation scenes."""
    size: tuple[int, int] = (64, 64)
    """Height and width of images and masks, multiples of 32."""
    architecture: Literal["small", "paper"] = "small"
    """Sizes: ours for small pictures, or the paper's (FCN-8s, autoencoder "simple")."""
    latent_size: int = 16
    """Length of an action (decoder only)."""
    state_pyramid: bool = True
    """Whether the decoder sees the context (decoder only; False is the paper's ablation NoSP)."""
    device: str = "cpu"
    """Where to train."""

    def run(self) -> None:
        """Train, evaluate and write the weights."""
        train = PackedScenes(open_scenes(self.scenes, "train", self.size, self.scene_options), self.size, self.device)
        val = PackedScenes(open_scenes(self.scenes, "val", self.size, self.val_options), self.size, self.device)
        mean, std = image_statistics(train)
        if self.network == "context":
            context = ContextConfig("unet" if self.architecture == "small" else "fcn8s", size=self.size)
            context = replace(context, image_mean=mean, image_std=std)
            pretrain_context(train, val, context, self.config, self.out)
        else:
            base = SMALL if self.architecture == "small" else AutoencoderConfig(bottleneck_channels=self.latent_size)
            base = replace(base, size=self.size, latent_size=self.latent_size, state_pyramid=self.state_pyramid)
            autoencoder = replace(base, image_mean=mean, image_std=std)
            context_network = load_context_network(self.out).to(self.device)
            if context_network.config.size != self.size:
                raise ValueError(
                    f"--size {self.size} must be that of the context network in {self.out}, "
                    f"{context_network.config.size} (height, width)"
                )
            pretrain_autoencoder(train, val, context_network, autoencoder, self.config, self.out)
        print(f"weights of the {self.network} network are in {self.out}")


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
        """Train to the end of the schedule."""
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


Evaluated = tuple[PackedScenes, dict[str, Any], list[Evaluation]]


@dataclass(frozen=True)
class Evaluate:
    """Measure an agent on a split, beside the references that say what the numbers mean."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or of a policy of another library (see agents.evaluation.policies)."""
    split: str = "val"
    """"train", "val" or "test"."""
    scenes: str | None = None
    """"leaves" or a folder; by default the run's own."""
    scene_options: JsonObject | None = None
    """Further arguments of `Leaves` or `FolderScenes`; by default the run's, if its scenes are used."""
    num_scenes: int | None = None
    """Only the first so many scenes."""
    out: Path | None = None
    """Folder of the report; by default `evaluation-<split>` in the run's."""
    device: str = "cpu"
    """Where to run."""

    def run(self) -> None:
        """Evaluate, print the table, write the report."""
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


@dataclass(frozen=True)
class Segment:
    """Take images apart: writes `<name>_label.png` (16-bit, 0 = background) and `<name>_overlay.png`."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, of any size."""
    agent: Path
    """A run folder or an `agent.pt`."""
    out: Path
    """Folder of the pictures."""
    max_steps: int | None = None
    """Cap on the number of instances; by default the agent's."""
    device: str = "cpu"
    """Where to run."""

    def run(self) -> None:
        """Segment every image."""
        if not self.images:
            raise ValueError("give at least one image to segment")
        for path in self.images:
            if sum(other.stem == path.stem for other in self.images) > 1:
                raise ValueError(f"{path}: another image is named {path.stem!r}, too; segment it into another --out")
        pictures = [read_image(path) for path in self.images]  # before any work: all of them or none
        agent = Agent.load(self.agent, self.device)
        for path, picture in zip(self.images, pictures, strict=True):
            result = agent.segment(picture, self.max_steps)
            with replacing(self.out / f"{path.stem}_label.png") as unfinished:
                Image.fromarray(result.label_map.astype(np.uint16)).save(unfinished, format="PNG")
            picture_out = self.out / f"{path.stem}_overlay.png"
            write_png(picture_out, overlay(picture.transpose(2, 0, 1), result.label_map))
            end = "stopped by itself" if result.stopped else "stopped by the cap on steps"
            print(f"{path}: {len(result.order)} instances, {end}; {picture_out}")


@dataclass(frozen=True)
class Bench:
    """Measure how fast everything is, beside a straightforward implementation in the same process."""

    suites: tuple[str, ...] = ()
    """Which parts to measure, of decoder, scores, matching, policy, techniques, step, reset, vector, growth, training,
    inference and gpu; by default all of them."""
    weights: tuple[str, ...] = ()
    """Folders of pre-trained networks, used at the size that they are for; the bundled ones are for 64x64, and at
    other sizes weights are random."""
    repeats: int = 20
    """Timed calls of everything."""
    quick: bool = False
    """Little pictures and few calls, to see that it runs: the numbers mean nothing."""
    max_envs: int = 64
    """Largest number of environments in the suite growth."""
    threads: int = 1
    """Of PyTorch on the CPU."""
    out: Path = Path("runs/bench")
    """Folder of `report.json` and the curves."""
    device: str = "cpu"
    """Where to run."""

    def run(self) -> None:
        """Measure, print the tables, write the report."""
        checkout = Path(__file__).parents[2]
        if not (checkout / "benchmarks" / "suites.py").is_file():
            raise ValueError("the benchmarks are not installed with the package: run `acis bench` from a checkout")
        sys.path.insert(0, str(checkout))  # an editable installation finds the packages that are shipped, and no others
        from benchmarks.suites import run_suites

        run_suites(self)


def read_image(path: Path) -> Picture:
    """Read an image file as RGB `[h, w, 3]` uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


Command = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Segment, tyro.conf.subcommand("segment")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run `acis`. A mistake of the user ends it with one line that says what was wrong."""
    keep_freed_memory()
    # Cascading lets the options of `train` also stand behind the preset.
    cascade = (tyro.conf.CascadeSubcommandArgs,)
    command = tyro.cli(Command, prog="acis", description=__doc__, args=arguments, config=cascade)
    try:
        if not isinstance(command, Train):  # a trainer looks by itself, once it knows its place among others
            check_device(command.device)
        command.run()
    except (ValueError, OSError, FloatingPointError, FailedRunsError) as error:
        sys.exit(f"acis: {error}")
    except KeyboardInterrupt:
        sys.exit("acis: interrupted; what was written is whole, and `acis train --resume` continues a run")
