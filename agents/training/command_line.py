"""The commands that made a run, for those who want to make it again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from acis_env.files import write_json
from acis_env.json_files import read_json
from agents.models.agent_card import COMMANDS


def record_command(folder: Path) -> None:
    """Add the command of this process to those of the run in `folder`."""
    path = folder / COMMANDS
    before = read_json(path)["commands"] if path.exists() else []
    write_json(path, {"commands": [*before, command_line()]})


def command_line() -> str:
    """How this process was started, without the folders of the program itself."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = Path(sys.argv[0]).name
    if spec is not None:
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    else:
        program = ["python", script] if script.endswith(".py") else [script]
    return shlex.join([*program, *sys.argv[1:]])
