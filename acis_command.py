"""The command `acis`: starts `agents.commands`, also where another distribution has a package called `agents`.

It is a module of its own, outside of the packages, so that it is there when one of them is not.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

DISTRIBUTION = "acis-env"
OURS = Path(__file__).parent / "agents"
"""Our package `agents`, beside this file, whichever of that name Python finds first."""


def main() -> None:
    """Run `acis`, or say in one line which files are not ours and what to do."""
    problem = _find_damage(OURS)
    if problem:
        sys.exit(f"acis: {problem}")
    importlib.import_module("agents.commands.main").main()


def _use_ours() -> None:
    """Make `import agents` give `OURS`, where the search path has another one first."""
    found = importlib.machinery.PathFinder.find_spec("agents", [str(OURS.parent)])
    first = importlib.util.find_spec("agents")
    if found is None or found.loader is None or (first is not None and first.origin == found.origin):
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "agents"]:
        del sys.modules[name]
    module = importlib.util.module_from_spec(found)
    sys.modules["agents"] = module
    found.loader.exec_module(module)


def _find_damage(package: Path) -> str | None:
    """What is wrong with the files of `package`, None if nothing is; in files that were changed by hand nothing is."""
    if not (package / "commands" / "main.py").is_file() or not (package / "__init__.py").is_file():
        first, others = f"{package} is not whole", list(_others())
    else:
        changed = next(_changed_files(), None)
        others = [] if changed is None else list(_others())
        if changed is None or (changed.is_file() and not others):
            return None
        first = f"{changed} is missing or not ours"
    culprit = f"{others[0]} has a package `agents`, too" if others else "another distribution may have removed it"
    removal = f"pip uninstall {others[0]} && " if others else ""
    way_out = f"{removal}pip install --force-reinstall --no-deps {DISTRIBUTION}"
    return f"{first}: {culprit}; keep the two in different environments, and here run `{way_out}`"


def _changed_files() -> Iterator[Path]:
    """Files of `agents` that are not as they were installed; none of an installation that does not say how that was."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.parts[0] == "agents" and file.suffix == ".py" and file.hash is not None:
            path = Path(str(file.locate()))
            expected = file.hash.value.rstrip("=")
            if not path.is_file() or _digest(path.read_bytes(), file.hash.mode) != expected:
                yield path


def _digest(content: bytes, mode: str) -> str:
    return base64.urlsafe_b64encode(hashlib.new(mode, content).digest()).decode().rstrip("=")


def _others() -> Iterator[str]:
    """Other distributions with a package `agents`."""
    for name in importlib.metadata.packages_distributions().get("agents", []):
        if name.lower().replace("_", "-") != DISTRIBUTION:
            yield name


# At import, so that the processes that `acis` spawns, which import this module and do not call `main`, have it, too.
_use_ours()
