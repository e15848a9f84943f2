"""The command `acis`: finds the command that is asked for, and imports nothing that belongs to the others."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Sequence

DESCRIPTION = "Instance segmentation as a sequential decision process: pre-train, train, evaluate and use an agent."
COMMANDS = {
    "quickstart": "Train an agent on the bundled leaves in a few minutes, and show what it learned.",
    "pretrain": "Train the networks around the agent: the context network, then the mask decoder.",
    "train": "Train an agent by a named preset, or resume an interrupted run.",
    "evaluate": "Measure an agent on held-out scenes, beside a random agent and the decoder's bound.",
    "segment": "Segment images with a trained agent.",
    "watch": "Watch and steer an agent on a page of this computer, mask by mask.",
    "export": "Write a trained agent as ONNX files, which run without torch.",
    "data": "Check, describe or convert a data set.",
    "submit": "Write predictions in the form that a benchmark's server takes.",
    "paper": "Run the published pipeline on CVPPP or KITTI, from the data to a submission.",
    "benchmark": "Compare agents, yardsticks and bounds on data sets, with seeds, and write a report.",
    "reproduce": "Run the paper's experiments with many seeds, and write a report.",
}
"""Descriptions in `acis --help`, by command. `agents.commands.NAME` holds a dataclass of that name, capitalised."""

NO_MEMORY = ("out of memory", "not enough memory", "allocate memory")
"""Words of the errors in which torch says that it got none; other errors have "memory" in them, too."""
MISTAKE = 2
"""Status with which the process ends after a mistake of the user, as that of tyro for arguments."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `acis`; a mistake of the user ends it with status 2 and one line that says what was wrong.

    Args:
        arguments: name of the command and its arguments; by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console may not have every letter of a file's name
            stream.reconfigure(errors="backslashreplace")
    name, *others = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"acis {importlib.metadata.version('acis-env')}")
    elif name in COMMANDS:
        _run(name, others)
    else:
        print(_unknown(name), file=sys.stderr)
        sys.exit(MISTAKE)


def _run(name: str, arguments: Sequence[str]) -> None:
    # Set before torch is imported: threads that wait by turning round and round take the core from the very thread that
    # they wait for, as soon as other programs want one, too (docs/performance.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import tyro

    from acis_env.allocator import keep_freed_memory

    keep_freed_memory()
    command_type = getattr(importlib.import_module(f"agents.commands.{name}"), name.capitalize())
    # Cascading lets the options of `train` also stand behind the preset.
    cascade = (tyro.conf.CascadeSubcommandArgs,)
    try:
        if hasattr(command_type, "check"):
            command_type.check(arguments)
        command = tyro.cli(command_type, prog=f"acis {name}", args=arguments, config=cascade)
        command.run()
    except (ValueError, OSError, FloatingPointError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        print(f"acis: {_one_line(error)}", file=sys.stderr)
        sys.exit(MISTAKE)
    except KeyboardInterrupt as interruption:
        reason = str(interruption) or "interrupted; what was written is whole"
        print(f"acis: {reason}", file=sys.stderr)
        sys.exit(128 + getattr(interruption, "number", signal.SIGINT))


def _one_line(error: Exception) -> str:
    from acis_env.files import one_line

    if isinstance(error, MemoryError | RuntimeError):
        return f"out of memory: use smaller sizes or batches ({str(error).splitlines()[0] if str(error) else 'Python'})"
    return one_line(error)


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {line}" for name, line in COMMANDS.items())
    return f"""usage: acis [--help] [--version] COMMAND ...

{DESCRIPTION}

commands:
{commands}

`acis COMMAND --help` shows the arguments of a command."""


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, COMMANDS, cutoff=0.5)
    others = ", ".join(command for command in COMMANDS if command not in nearest)
    hint = f"did you mean {' or '.join(nearest)}? There are also {others}" if nearest else f"expected one of {others}"
    problem = f"unknown command {name!r}" if name else "no command given"
    return f"acis: {problem}: {hint} (`acis --help` describes them)"
