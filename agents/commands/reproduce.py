"""`acis reproduce`: the paper's experiments on any scenes."""

from agents.experiments.reproduce import Reproduce

__all__ = ["Reproduce"]
