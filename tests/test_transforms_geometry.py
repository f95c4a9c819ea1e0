"""Turned and mirrored patches: labels go with their images, in mm, within their plane."""

from __future__ import annotations

import pytest
import torch

from transforms.geometry import (
    _places,
    _random_matrix,
    _sampled,
    _sampled_by_pytorch,
    mirror_,
    turn_,
)

SHAPE = (12, 16, 10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(batch_size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright block off the centre; the label is where the image is bright."""
    labels = torch.zeros(batch_size, *SHAPE, dtype=torch.uint8)
    labels[:, 4:9, 5:13, 3:6] = 2
    return labels[:, None].float(), labels


def test_a_label_turns_with_its_image():
    images, labels = block(16)
    before = labels.clone()

    turn_(images, labels, spacing_mm=(1, 1, 1), generator=generator())

    moved = [n for n in range(16) if not torch.equal(labels[n], before[n])]
    assert 2 <= len(moved) <= 12, "about a third of the samples"
    # Interpolated intensities above half of 2 are where the nearest label is 2, but for borders
    agree = ((images[:, 0] > 1) == (labels == 2)).float().mean()
    assert agree > 0.98
    assert set(labels.unique().tolist()) == {0, 2}


def test_a_ball_in_mm_stays_a_ball_when_it_turns():
    # Spacing 1 x 1 x 3 mm: a ball of radius 9 mm. Turned in voxels instead of mm, it would be
    # stretched along K; turned in mm about its centre it stays where it is, but for its scale.
    index = torch.stack(torch.meshgrid(*map(torch.arange, (24, 24, 8)), indexing="ij"), dim=-1)
    offset_mm = (index - torch.tensor([11.5, 11.5, 3.5])) * torch.tensor([1.0, 1.0, 3.0])
    labels = (offset_mm.norm(dim=-1) <= 9).to(torch.uint8)[None].repeat(32, 1, 1, 1)

    turn_(labels[:, None].float(), labels, spacing_mm=(1, 1, 3), generator=generator())

    for label in labels:
        here = offset_mm[label == 1]
        widths = here.amax(dim=0) - here.amin(dim=0)
        assert widths.max() - widths.min() <= 4.0, "within a voxel of 3 mm and one of 1 mm"


def test_a_quarter_turn_takes_each_voxel_from_a_quarter_turn_away():
    # About K: I comes from J, and J from the other end of I
    quarter = [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    image = torch.rand(2, 6, 6, 3, generator=generator())
    label = torch.arange(108, dtype=torch.uint8).view(6, 6, 3)

    moved, moved_label = _sampled(
        image, label, _places(quarter, label.shape, device=torch.device("cpu"))
    )

    torch.testing.assert_close(moved, image.transpose(1, 2).flip(1))
    assert torch.equal(moved_label, label.transpose(0, 1).flip(0))


@pytest.mark.parametrize("enlarged", [0.3, 1.0, 4.0])
def test_voxels_are_found_as_pytorch_finds_them(enlarged):
    # Two channels, places far outside among them
    image = torch.randn(2, *SHAPE, generator=generator())
    label = torch.randint(0, 5, SHAPE, generator=generator(), dtype=torch.uint8)
    turned = _random_matrix((1.0, 2.0, 1.5), generator(), thin=None)
    matrix = [[enlarged * value for value in row] for row in turned]
    places = _places(matrix, SHAPE, device=torch.device("cpu"))

    moved, moved_label = _sampled(image, label, places)

    expected, expected_label = _sampled_by_pytorch(image, label, places)
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)
    # Half way between two voxels either is nearest
    assert (moved_label != expected_label).float().mean() < 1e-3


def test_a_thin_patch_turns_in_its_plane():
    images = torch.zeros(16, 1, 40, 30, 6)
    images[..., 10:30, 5:15, 2] = 1
    labels = images[:, 0].to(torch.uint8)
    before = images.clone()

    turn_(images, labels, spacing_mm=(1, 1, 5), generator=generator())

    assert not torch.equal(images, before)
    assert images[..., [0, 1, 3, 4, 5]].abs().max() < 1e-5
    assert labels[..., [0, 1, 3, 4, 5]].sum() == 0


def test_mirroring_is_along_the_asked_axes_only():
    images, labels = block(16)
    before = labels[0].clone()

    mirror_(images, labels, axes=(0,), generator=generator())

    n_flipped = 0
    for sample, label in zip(images, labels, strict=True):
        assert torch.equal(sample[0], label.float())
        assert torch.equal(label, before) or torch.equal(label, before.flip(0))
        n_flipped += int(not torch.equal(label, before))
    assert 4 <= n_flipped <= 12, "half of them"


def test_no_axes_no_mirroring():
    images, labels = block()
    before = images.clone()

    mirror_(images, labels, axes=(), generator=generator())

    assert torch.equal(images, before)
