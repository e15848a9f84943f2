"""The origin of a result: commits, versions and dates."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch


def origin(folder: Path) -> dict[str, Any]:
    """Commits, version of torch and date, for the result of the job in `folder`."""
    commits = ", ".join(commits_of(folder))
    return {"commit": commits, "torch": torch.__version__, "written": time.strftime("%Y-%m-%d %H:%M:%S")}


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
