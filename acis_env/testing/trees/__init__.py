"""Small trees of files in exactly the forms in which data sets are published.

They have drawn pictures, so that every loader, command and training can be tried without a download. A writer takes a
folder that is new or empty, and options, and returns what a loader has to find there: scenes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from acis_env.datasets.scene import Scene
from acis_env.testing.trees.cvppp import write_cvppp
from acis_env.testing.trees.kitti import write_kitti

WRITERS: Mapping[str, Callable[..., dict[str, Scene]]] = {"cvppp": write_cvppp, "kitti": write_kitti}
"""Writers by the name of the data set, called as `writer(folder, **options)`."""

__all__ = ["WRITERS", "write_cvppp", "write_kitti"]
