"""MONAI transforms from plain arguments: preprocess, augment, postprocess, labels.

The lowest layer: imports nothing of segfed, takes no settings object, raises ``ValueError``.
"""

from transforms.labels import remap_label
from transforms.postprocess import restore, restore_slabs
from transforms.preprocess import as_metatensor, preprocess

__all__ = ["as_metatensor", "preprocess", "remap_label", "restore", "restore_slabs"]
