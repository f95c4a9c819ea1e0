"""Intensities change in some samples, each way as it should, and within bounds."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from transforms.intensity import _along_axes, _coarsened, _softening, change_intensity_

SHAPE = (12, 16, 10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("constant", [0.0, -3.5])
def test_a_constant_image_stays_finite_and_constant(constant):
    # Its deviation is 0, and so are all changes that are measured in deviations.
    images = torch.full((16, 2, *SHAPE), constant)

    change_intensity_(images, generator=generator())

    assert torch.allclose(images, torch.tensor(constant), atol=1e-5)


def test_intensities_change_in_some_samples_and_within_bounds():
    images = torch.randn(32, 2, *SHAPE, generator=generator(9))
    before = images.clone()

    change_intensity_(images, generator=generator())

    n_same = sum(torch.equal(a, b) for a, b in zip(before, images, strict=True))
    # 0.7 ** 4 * 0.9 * 0.75, or 16 % of them, are left alone in all six ways
    assert 1 <= n_same <= 12
    assert torch.isfinite(images).all()
    assert images.abs().max() < 4 * before.abs().max()


def test_a_blur_is_gaussian_inside_and_keeps_what_is_constant():
    image = torch.randn(SHAPE, generator=generator())

    blurred, ones = (
        _along_axes(volume, [_softening(n, 0.8, like=image) for n in SHAPE])
        for volume in (image, torch.ones(SHAPE))
    )

    expected = torch.from_numpy(gaussian_filter(image.numpy(), 0.8, truncate=6))
    inside = (slice(4, -4),) * 3
    torch.testing.assert_close(blurred[inside], expected[inside], atol=1e-4, rtol=0)
    torch.testing.assert_close(ones, torch.ones(SHAPE))


def test_low_resolution_is_that_of_pytorch():
    # Half of 12, 16 and 10 voxels: 6, 8 and 5
    image = torch.randn(SHAPE, generator=generator())

    coarse = _coarsened(image, 0.5)

    kept = interpolate(image[None, None], (6, 8, 5), mode="nearest-exact")
    expected = interpolate(kept, SHAPE, mode="trilinear")[0, 0]
    torch.testing.assert_close(coarse, expected, atol=1e-5, rtol=0)


def test_thick_slices_keep_their_resolution():
    # A slice by itself is as coarse as it is among others
    image = torch.randn(24, 18, 4, generator=generator())

    coarse = _coarsened(image, 0.5)

    for k in range(4):
        alone = image[..., [k]]
        torch.testing.assert_close(coarse[..., [k]], _coarsened(alone, 0.5))
    assert not torch.equal(coarse, image)


def test_full_resolution_changes_nothing():
    image = torch.randn(SHAPE, generator=generator())

    assert torch.equal(_coarsened(image, 1.0), image)
