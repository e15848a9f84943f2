"""Scripts that belong to no package, as modules."""

import importlib.util
import sys


def load_script(path):
    """Import a Python file by its path, under its own name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
