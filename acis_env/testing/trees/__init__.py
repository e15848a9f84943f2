"""Tiny trees of files in the formats in which data sets are published, with the traits that loaders must survive.

They have drawn pictures, so that every loader, command and training can be tried without a download. Each function
writes one into a folder that is new or empty, and returns the scenes that have to be read from it."""

from collections.abc import Callable, Mapping
from typing import Any

from acis_env.testing.trees.bbbc038 import write_bbbc038
from acis_env.testing.trees.cityscapes import write_cityscapes
from acis_env.testing.trees.coco import write_coco
from acis_env.testing.trees.cvppp import write_cvppp
from acis_env.testing.trees.kitti import write_kitti
from acis_env.testing.trees.masks import write_masks

WRITERS: Mapping[str, Callable[..., Any]] = {
    "cvppp": write_cvppp,
    "kitti": write_kitti,
    "bbbc038": write_bbbc038,
    "coco": write_coco,
    "cityscapes": write_cityscapes,
    "masks": write_masks,
}
"""By the name of the data set; each is called as `writer(folder, **options)`."""

__all__ = ["WRITERS", "write_bbbc038", "write_cityscapes", "write_coco", "write_cvppp", "write_kitti", "write_masks"]
