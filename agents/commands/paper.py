"""`acis paper`: the published pipeline on CVPPP or KITTI, from data to a submission, in one command that resumes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from acis_env.checksums import read_json
from acis_env.configs import check_at_least
from acis_env.datasets.cvppp_files import import_h5py
from acis_env.datasets.registry import DATASETS
from acis_env.datasets.roots import MissingSplit
from acis_env.files import write_json
from acis_env.folders import claimed
from acis_env.interruption import naming
from acis_env.networks import check_device
from acis_env.pretraining import is_finished
from agents.commands.main import main
from agents.experiments.paper import RECIPES, Settings, Step, plan_steps, quoted

RECORD = "paper.json"
"""File in the folder of the pipeline that says what it is and which steps are done."""


@dataclass(frozen=True)
class Paper:
    """Train and measure as published, on CVPPP A1 or on KITTI's cars.

    Runs `acis pretrain context`, `acis pretrain decoder`, `acis train paper-cvppp` (or `paper-kitti`), `acis evaluate`
    and `acis submit`, each of which it prints first. Started again, it goes on where it was interrupted. The data have
    to be downloaded before; `acis data example` makes small ones of the same form.
    """

    dataset: Annotated[Literal["cvppp", "kitti"], tyro.conf.Positional]
    """Data set to train on."""
    out: Path
    """Folder of weights, run, evaluation and submission."""
    root: Path | None = None
    """Folder of the data; by default that in the environment variable ACIS_CVPPP_ROOT or ACIS_KITTI_ROOT."""
    quick: bool = False
    """Take only one or two updates of every kind, with the published networks, to try every step in minutes; nothing is
    learned by it."""
    estimate: bool = False
    """Only measure an update of every kind on this device, and print how long the whole pipeline would take."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "cpu"
    """Device to train on: "cpu" or "cuda"."""

    def run(self) -> None:
        """Run the steps that are not done yet.

        Raises:
            ValueError: `out` holds a pipeline with other settings, or h5py is missing, which a submission for CVPPP
                needs.
            FileNotFoundError: the data are not there.
        """
        check_device(self.device)
        check_at_least(0, self, "seed")
        settings = Settings(RECIPES[self.dataset], self.root, self.out, self.quick, self.seed, self.device)
        counts = self._counts()  # before hours of training
        print(", ".join(f"{count} scenes in {split}" for split, count in counts.items()))
        if self.estimate:
            from agents.experiments.paper_time import estimate, format_estimate

            for line in format_estimate(estimate(settings), self.device):
                print(line, flush=True)
            return
        if self.dataset == "cvppp" and "test" in counts:
            import_h5py(self.out / "submission.h5")
        with naming(self.out), claimed(self.out):
            self._run_steps(settings, has_test="test" in counts)

    def _counts(self) -> dict[str, int]:
        """Number of scenes of each split; the test set may be missing."""
        loader, size = DATASETS[self.dataset].loader, RECIPES[self.dataset].size
        counts = {split: len(loader(split, size, root=self.root)) for split in ("train", "val")}
        try:
            return counts | {"test": len(loader("test", size, root=self.root))}
        except MissingSplit as error:
            print(f"no submission, since there are no test images: {error}")
            return counts

    def _run_steps(self, settings: Settings, has_test: bool) -> None:
        record, steps = self._record(), plan_steps(settings)
        for number, step in enumerate(steps if has_test else steps[:-1], start=1):
            if step.name in record["done"] or _is_whole(step):
                print(f"{number}. {step.name}: done, {step.product}")
                continue
            print(f"{number}. {step.name}: {quoted(step.arguments)}", flush=True)
            started = time.monotonic()
            self._run_step(step)
            record["done"][step.name] = round(time.monotonic() - started, 1)
            write_json(self.out / RECORD, record, checksum=True)
        print(f"all steps are done; the table is in {self.out / 'evaluation'}")

    def _run_step(self, step: Step) -> None:
        """Run `step`; one that ends by a signal has said where it stands."""
        try:
            main(step.arguments)
        except SystemExit as end:
            if isinstance(end.code, int) and end.code > 128:
                print(f"acis: step {step.name} of {self.out} goes on by the same command", file=sys.stderr)
            raise

    def _record(self) -> dict[str, Any]:
        """What has been done in `out`: settings, and the seconds of every step that is done."""
        settings = {
            "dataset": self.dataset,
            "root": None if self.root is None else str(self.root.absolute()),
            "quick": self.quick,
            "seed": self.seed,
            "device": self.device,
        }
        path = self.out / RECORD
        if not path.is_file():
            record = {"settings": settings, "done": {}}
            write_json(path, record, checksum=True)
            return record
        record = read_json(path)
        if record.get("settings") != settings:
            raise ValueError(
                f"--out {self.out} holds a pipeline with the settings {record.get('settings')}, got {settings}: choose "
                "another folder"
            )
        return record


def _is_whole(step: Step) -> bool:
    """Whether a step is done by what there is of its product, for want of a record that it came to its end."""
    if step.name in ("context", "decoder"):
        return is_finished(step.product.parent, step.product.stem)
    return step.name == "submission" and step.product.exists()
