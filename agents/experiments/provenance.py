"""The origin of a result: commits, versions and dates."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


def origin(folder: Path) -> dict[str, Any]:
    """Commits, version of torch and date, for the result of the job in `folder`."""
    commits = ", ".join(commits_of(folder))
    return {"commit": commits, "torch": torch.__version__, "written": time.strftime("%Y-%m-%d %H:%M:%S")}


def machine() -> dict[str, Any]:
    """The processor, and versions of Python and of the libraries that decide a result."""
    versions = {"python": platform.python_version()}
    for distribution in ("numpy", "stable-baselines3", "scikit-image"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[distribution] = importlib.metadata.version(distribution)
    return {"processor": _processor(), "versions": versions}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commits_of(folder: Path) -> list[str]:
    """The commits with which the job in `folder` was begun and continued; the present one if it keeps no record."""
    path = folder / "job.json"
    return json.loads(path.read_text())["commits"] if path.exists() else [commit()]


def commit() -> str:
    """The checkout's commit, with "+changes" if files differ from it; else the package's version."""
    checkout = Path(__file__).parents[2]
    try:
        if Path(_git(checkout, "rev-parse", "--show-toplevel")) != checkout:  # installed inside of another project
            return importlib.metadata.version("acis-env")
        head = _git(checkout, "rev-parse", "HEAD")
        return head + ("+changes" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return importlib.metadata.version("acis-env")


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
