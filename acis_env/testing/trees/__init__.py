"""Tiny trees of files in the formats in which data sets are published, with the traits that loaders must survive.

Each function writes one below a folder and returns the scenes that have to be read from it, by split."""

from acis_env.testing.trees.bbbc038 import write_bbbc038
from acis_env.testing.trees.cityscapes import write_cityscapes
from acis_env.testing.trees.coco import write_coco
from acis_env.testing.trees.masks import write_masks

WRITERS = {
    "bbbc038": write_bbbc038,
    "coco": write_coco,
    "cityscapes": write_cityscapes,
    "masks": write_masks,
}
"""By the name of the data set; each is called as `writer(folder, **options)`."""

__all__ = ["WRITERS"]
