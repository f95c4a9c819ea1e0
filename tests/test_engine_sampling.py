"""Patches: where they come from and what they hold."""

from __future__ import annotations

import numpy as np
import torch

from segfed.engine import PreparedCase
from segfed.engine.cache import label_positions
from segfed.engine.sampling import draw_batch


def numbered_case(shape: tuple[int, int, int], *, labelled: tuple[int, int, int] | None = None):
    """A case whose voxels are all different, and at most one of which is labelled."""
    image = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(1, *shape)
    label = np.zeros(shape, dtype=np.uint8)
    if labelled:
        label[labelled] = 3
    return PreparedCase("case", "0", image, label, label_positions(label))


def draw(case, patch_voxels, *, batch_size=8, seed=0):
    rng = np.random.default_rng(seed)
    return draw_batch([case], patch_voxels=patch_voxels, batch_size=batch_size, rng=rng)


def test_half_of_the_patches_hold_the_only_labelled_voxel():
    case = numbered_case((40, 30, 20), labelled=(33, 5, 17))

    _, labels = draw(case, (4, 4, 4), batch_size=6)

    assert (labels == 3).sum(dim=(1, 2, 3)).tolist()[:3] == [1, 1, 1]


def test_image_and_label_are_cut_alike():
    case = numbered_case((12, 10, 8), labelled=(6, 5, 4))

    images, labels = draw(case, (6, 6, 6))

    # Index (6, 5, 4) holds 1 + 6 * 80 + 5 * 8 + 4 = 525
    assert set(images[:, 0][labels == 3].tolist()) == {525.0}


def test_a_case_smaller_than_the_patch_lies_whole_inside_it():
    case = numbered_case((3, 10, 4), labelled=(1, 5, 2))

    images, _ = draw(case, (6, 6, 6))

    for patch in images:
        # 3 x 6 x 4 voxels of the case, zeros around
        assert (patch > 0).sum() == 72
    assert len({tuple(patch.nonzero()[0].tolist()) for patch in images}) > 1, "anywhere in it"


def test_a_case_without_labels_is_drawn_from_too():
    images, labels = draw(numbered_case((9, 9, 9)), (4, 4, 4))

    assert labels.sum() == 0
    assert images.shape == (8, 1, 4, 4, 4)
    assert labels.dtype == torch.uint8


def test_the_same_generator_gives_the_same_batch():
    case = numbered_case((12, 10, 8), labelled=(6, 5, 4))

    assert torch.equal(draw(case, (4, 4, 4))[0], draw(case, (4, 4, 4))[0])
    assert not torch.equal(draw(case, (4, 4, 4))[0], draw(case, (4, 4, 4), seed=1)[0])
