"""Back onto the image's own grid, voxel by voxel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from segfed.volumes import read_label
from tests.volumes_samples import AFFINES, OBLIQUE, SHAPE, STRAIGHT
from transforms import as_metatensor, postprocess, preprocess, restore, restore_slabs

# Turned by 22.6 degrees about z (sides 5, 12, 13), so that every axis stays nearest to its own.
TURNED = np.array(
    [
        [12 / 13, -7.5 / 13, 0, 10],
        [5 / 13, 18 / 13, 0, -20],
        [0, 0, 3, 30],
        [0, 0, 0, 1],
    ]
)
SPACING_MM = (1, 1.5, 3)


def scores_of(label: torch.Tensor, n_classes: int = 4) -> torch.Tensor:
    """Scores (K, I, J, K) of a network that is certain of a label (1, I, J, K)."""
    one_hot = torch.nn.functional.one_hot(label[0].as_tensor().long(), n_classes)
    return one_hot.permute(3, 0, 1, 2).float()


def round_trip(label: np.ndarray, affine, *, spacing_mm) -> np.ndarray:
    """A label (1, I, J, K) sent to the network's grid and back."""
    case = {"image": as_metatensor(label, affine), "label": as_metatensor(label, affine)}
    seen = preprocess(spacing_mm=spacing_mm, window_hu=None)(case)["label"]
    restored = restore(
        scores_of(seen), affine=seen.affine, target_affine=affine, target_shape=label.shape[1:]
    )
    return restored.numpy()


def stored_as(label: np.ndarray, affine: np.ndarray, order, flips):
    """The same voxels in the same places, stored in another axis order and direction."""
    # new index -> old index: old axis order[n] is new axis n, counted from its end if flipped.
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        to_old[old, new] = -1 if flip else 1
        to_old[old, 3] = label.shape[1 + old] - 1 if flip else 0
    stored = label.transpose(0, *(1 + old for old in order))
    flipped = tuple(1 + new for new, flip in enumerate(flips) if flip)
    return np.ascontiguousarray(np.flip(stored, flipped)), affine @ to_old


@pytest.mark.parametrize("base", [np.array(STRAIGHT), TURNED], ids=["straight", "turned"])
def test_all_48_ways_to_store_a_label_are_seen_alike_and_restored_exactly(base):
    truth = np.random.default_rng(0).integers(0, 4, (1, *SHAPE), dtype=np.uint8)
    orders, flips = itertools.permutations(range(3)), itertools.product([False, True], repeat=3)

    for order, flip in itertools.product(orders, list(flips)):
        label, affine = stored_as(truth, base, order, flip)
        case = {"image": as_metatensor(np.ones_like(label), affine)}
        case["label"] = as_metatensor(label, affine)

        seen = preprocess(spacing_mm=SPACING_MM, window_hu=None)(case)["label"]

        np.testing.assert_array_equal(seen, truth)
        np.testing.assert_allclose(seen.affine, base, atol=1e-9)
        np.testing.assert_array_equal(round_trip(label, affine, spacing_mm=SPACING_MM), label[0])


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_finer_grid_of_the_network_restores_every_voxel(affine):
    # Three network voxels in every voxel of the image, whose centre is that of the middle one. On
    # the way back only that one counts, so nothing is lost.
    affine = np.array(affine)
    world = np.abs(affine[:3, :3]).argmax(axis=1)  # the voxel axis that leads right, forward, up
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[world] / 3
    label = np.random.default_rng(1).integers(0, 4, (1, *SHAPE), dtype=np.uint8)

    np.testing.assert_array_equal(round_trip(label, affine, spacing_mm=spacing_mm), label[0])


def test_scores_are_interpolated_and_not_labels():
    # Two coarse voxels of 2 mm cover four of 1 mm, whose centres lie at -0.25, 0.25, 0.75 and 1.25
    # coarse voxels; beyond 0 and 1 the edge continues. Class 1 wins at 0.25 already:
    # class 0: 0.55 * 0.75 + 0 * 0.25 = 0.4125; class 1: 0.45 * 0.75 + 1 * 0.25 = 0.5875.
    scores = torch.tensor([[0.55, 0.0], [0.45, 1.0]]).reshape(2, 2, 1, 1)
    coarse = np.diag([2.0, 1, 1, 1])
    coarse[0, 3] = 0.5

    label = restore(scores, affine=coarse, target_affine=np.eye(4), target_shape=(4, 1, 1))

    assert label.flatten().tolist() == [0, 1, 1, 1]
    assert label.dtype == torch.uint8


def test_a_structure_stays_in_place_on_a_coarser_grid():
    # An ellipsoid off the centre, in an image of 60 x 56 x 50 mm, seen at 2.5 mm and restored.
    index = np.indices((60, 40, 25))
    at_mm = index * np.reshape([1, 1.4, 2], (3, 1, 1, 1))
    offset = (at_mm - np.reshape([25, 33, 22], (3, 1, 1, 1))) / np.reshape(
        [15, 12, 14], (3, 1, 1, 1)
    )
    truth = ((offset**2).sum(axis=0) <= 1)[np.newaxis].astype(np.uint8)
    affine = np.diag([-1, -1.4, 2, 1])

    restored = round_trip(truth, affine, spacing_mm=(2.5, 2.5, 2.5))

    def centre_mm(mask):
        return (at_mm * mask).sum(axis=(1, 2, 3)) / mask.sum()

    # A slip by half a network voxel would be 1.25 mm.
    np.testing.assert_allclose(centre_mm(restored), centre_mm(truth[0]), atol=0.3)


def test_a_tie_goes_to_the_lower_class():
    scores = torch.tensor([0.2, 0.4, 0.4]).reshape(3, 1, 1, 1).expand(3, *SHAPE)

    label = restore(scores, affine=np.eye(4), target_affine=np.eye(4), target_shape=SHAPE)

    assert label.unique().tolist() == [1]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_size_of_the_slabs_does_not_matter(monkeypatch, affine):
    truth = torch.rand((3, 6, 5, 4), generator=torch.Generator().manual_seed(0))
    case = {"image": as_metatensor(np.ones((1, *SHAPE), np.float32), affine)}
    seen = preprocess(spacing_mm=(2, 2, 2), window_hu=None)(case)["image"]
    scores = torch.nn.functional.interpolate(truth[None], size=seen.shape[1:])[0]
    where = {"affine": seen.affine, "target_affine": affine, "target_shape": SHAPE}

    whole = restore(scores, **where)
    monkeypatch.setattr(postprocess, "_SLAB_SCORES", 1)

    assert torch.equal(restore(scores, **where), whole)


def test_half_precision_scores_with_metadata_are_accepted():
    scores = as_metatensor(torch.zeros(2, *SHAPE, dtype=torch.bfloat16), OBLIQUE)

    label = restore(scores, affine=scores.affine, target_affine=OBLIQUE, target_shape=SHAPE)

    assert type(label) is torch.Tensor
    assert label.unique().tolist() == [0]


@pytest.mark.parametrize("shape", [(4, 5, 6), (0, 4, 5, 6), (257, 1, 1, 1)])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"scores must have shape \(1 to 256, i, j, k\), found"):
        restore(torch.zeros(shape), affine=np.eye(4), target_affine=np.eye(4), target_shape=SHAPE)


def test_grids_that_are_not_parallel_are_refused():
    with pytest.raises(ValueError, match="axes are not parallel"):
        restore(torch.zeros(2, *SHAPE), affine=STRAIGHT, target_affine=OBLIQUE, target_shape=SHAPE)


def test_real_hippocampus_labels_come_back_exactly(shared_data):
    folder = shared_data("hippocampus") / "labelsTr"

    for path in sorted(folder.glob("hippocampus_00*.nii.gz")):
        label = read_label(path)
        restored = round_trip(label.data, label.grid.affine, spacing_mm=(1, 1, 1))
        np.testing.assert_array_equal(restored, label.data[0])


def test_a_real_brats_label_comes_back_exactly_from_its_lps_grid(shared_data):
    label = read_label(shared_data("brats_case") / "BraTS-GLI-00000-000-seg.nii.gz")

    restored = round_trip(label.data, label.grid.affine, spacing_mm=(1, 1, 1))

    np.testing.assert_array_equal(restored, label.data[0])


def test_a_real_kits_mask_comes_back_exactly_from_its_ipl_grid(shared_data):
    path = shared_data("kits19_labels") / "data" / "case_00039" / "segmentation.nii.gz"
    label = read_label(path)
    down, back, left = label.grid.spacing_mm
    block = label.data[:, :, 128:384:2, 128:384:2]  # every second voxel: a quarter of the time
    affine = label.grid.affine @ np.diag([1, 2, 2, 1])

    restored = round_trip(block, affine, spacing_mm=(2 * left, 2 * back, down))

    assert set(np.unique(block)) == {0, 1, 2}
    np.testing.assert_array_equal(restored, block[0])


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.7, 1.3, 2.1)])
@pytest.mark.parametrize("flipped", [False, True])
def test_slabs_of_a_box_give_what_the_whole_scores_give(spacing_mm, flipped):
    scores = torch.rand((3, 9, 8, 7), generator=torch.Generator().manual_seed(0))
    box = (slice(2, 9), slice(0, 5), slice(3, 6))
    background = torch.zeros_like(scores)
    background[0] = 1
    background[(slice(None), *box)] = scores[(slice(None), *box)]
    target = np.diag([-spacing_mm[0] if flipped else spacing_mm[0], *spacing_mm[1:], 1.0])
    target[0, 3] = 9 if flipped else -1
    grids = {"affine": np.eye(4), "target_affine": target, "target_shape": (14, 9, 5)}
    inside = scores[(slice(None), *box)]

    label = restore_slabs(inside.split([3, 1, 2, 1], dim=1), box=box, shape=(9, 8, 7), **grids)

    assert torch.equal(label, restore(background, **grids))
