"""Augmentation moves labels with their images and leaves the inputs alone."""

from __future__ import annotations

import pytest
import torch

from transforms.augment import _grid, augment, change_intensity, mirror, turn

SHAPE = (12, 16, 10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(batch_size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright block off the centre; the label is where the image is bright."""
    labels = torch.zeros(batch_size, *SHAPE, dtype=torch.int64)
    labels[:, 4:9, 5:13, 3:6] = 2
    return labels[:, None].float(), labels


def test_the_same_seed_gives_the_same_batch_and_another_one_does_not():
    images, labels = block()
    drawn = [
        augment(images, labels, spacing_mm=(1, 1, 1), mirror_axes=(0,), generator=generator(seed))[
            0
        ]
        for seed in (3, 3, 4)
    ]

    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_inputs_stay_as_they_were():
    images, labels = block()
    images.requires_grad_(False)
    before = images.clone(), labels.clone()

    augment(images, labels, spacing_mm=(1, 2, 3), mirror_axes=(0, 1), generator=generator())

    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_a_label_turns_with_its_image():
    images, labels = block(16)

    turned, turned_labels = turn(images, labels, spacing_mm=(1, 1, 1), generator=generator())

    moved = [n for n in range(16) if not torch.equal(labels[n], turned_labels[n])]
    assert 2 <= len(moved) <= 12, "about a third of the samples"
    # Interpolated intensities above half of 2 are where the nearest label is 2, but for borders
    agree = ((turned[:, 0] > 1) == (turned_labels == 2)).float().mean()
    assert agree > 0.98
    assert set(turned_labels.unique().tolist()) == {0, 2}


def test_a_ball_in_mm_stays_a_ball_when_it_turns():
    # Spacing 1 x 1 x 3 mm: a ball of radius 9 mm. Turned in voxels instead of mm, it would be
    # stretched along K; turned in mm about its centre it stays where it is, but for its scale.
    index = torch.stack(torch.meshgrid(*map(torch.arange, (24, 24, 8)), indexing="ij"), dim=-1)
    offset_mm = (index - torch.tensor([11.5, 11.5, 3.5])) * torch.tensor([1.0, 1.0, 3.0])
    ball = (offset_mm.norm(dim=-1) <= 9).long()[None].repeat(32, 1, 1, 1)

    _, labels = turn(ball[:, None].float(), ball, spacing_mm=(1, 1, 3), generator=generator())

    for label in labels:
        here = offset_mm[label == 1]
        widths = here.amax(dim=0) - here.amin(dim=0)
        assert widths.max() - widths.min() <= 4.0, "within a voxel of 3 mm and one of 1 mm"


def test_a_grid_is_that_of_pytorch():
    matrix = torch.randn(3, 4, generator=generator())

    expected = torch.nn.functional.affine_grid(matrix[None], [1, 1, *SHAPE], align_corners=False)

    torch.testing.assert_close(_grid(matrix, SHAPE), expected[0])


def test_a_thin_patch_turns_in_its_plane():
    images = torch.zeros(16, 1, 40, 30, 6)
    images[..., 10:30, 5:15, 2] = 1
    labels = images[:, 0].long()

    turned, turned_labels = turn(images, labels, spacing_mm=(1, 1, 5), generator=generator())

    assert not torch.equal(turned, images)
    assert turned[..., [0, 1, 3, 4, 5]].abs().max() < 1e-5
    assert turned_labels[..., [0, 1, 3, 4, 5]].sum() == 0


def test_mirroring_is_along_the_asked_axes_only():
    images, labels = block(16)

    mirrored, mirrored_labels = mirror(images, labels, axes=(0,), generator=generator())

    n_flipped = 0
    for sample, label in zip(mirrored, mirrored_labels, strict=True):
        assert torch.equal(sample[0], label.float())
        assert torch.equal(label, labels[0]) or torch.equal(label, labels[0].flip(0))
        n_flipped += int(not torch.equal(label, labels[0]))
    assert 4 <= n_flipped <= 12, "half of them"


def test_no_axes_no_mirroring():
    images, labels = block()

    mirrored, _ = mirror(images, labels, axes=(), generator=generator())

    assert torch.equal(mirrored, images)


@pytest.mark.parametrize("constant", [0.0, -3.5])
def test_a_constant_image_stays_finite_and_constant(constant):
    # Its deviation is 0, and so are all changes that are measured in deviations.
    images = torch.full((16, 2, *SHAPE), constant)

    changed = change_intensity(images, generator=generator())

    assert torch.allclose(changed, images, atol=1e-5)


def test_intensities_change_in_some_samples_and_within_bounds():
    images = torch.randn(32, 2, *SHAPE, generator=generator(9))

    changed = change_intensity(images, generator=generator())

    n_same = sum(torch.allclose(a, b, atol=1e-4) for a, b in zip(images, changed, strict=True))
    assert 2 <= n_same <= 20
    assert torch.isfinite(changed).all()
    assert changed.abs().max() < 4 * images.abs().max()
