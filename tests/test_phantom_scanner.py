"""Scanners differ from each other in every property."""

from __future__ import annotations

import numpy as np
import pytest

from segfed.phantom.scanner import Scanner, draw_scanners


@pytest.mark.parametrize("seed", range(3))
def test_four_ct_scanners_span_the_ranges(seed):
    scanners = draw_scanners("CT", n_scanners=4, spacing_mm=5.0, rng=np.random.default_rng(seed))

    # One value a quarter of 8 to 32 HU, at least an eighth of the range from the next
    noise = sorted(scanner.noise for scanner in scanners)
    assert [int((value - 8) / 6) for value in noise] == [0, 1, 2, 3]
    for field in ("spacing_mm", "noise", "blur_mm", "enhancement", "hu_shift"):
        assert len({getattr(scanner, field) for scanner in scanners}) == 4, field
    assert {scanner.orientation for scanner in scanners} == {"RAS", "LPS"}


def test_mr_scanners_differ_in_gamma_and_field():
    scanners = draw_scanners("MR", n_scanners=3, spacing_mm=4.0, rng=np.random.default_rng(0))

    assert len({(s.gamma, s.bias_field, s.noise) for s in scanners}) == 3
    assert {s.enhancement for s in scanners} == {1.0}


def test_a_grid_is_centred_and_covers_the_field():
    scanner = Scanner(spacing_mm=(4.0, 4.0, 6.0), orientation="LPS")

    grid = scanner.grid((330.0, 240.0, 190.0))

    # 330 / 4 = 82.5, rounded to even; 190 / 6 = 31.7
    assert grid.shape == (82, 60, 32)
    assert grid.orientation == "LPS"
    assert grid.affine @ [40.5, 29.5, 15.5, 1] == pytest.approx([0, 0, 0, 1])
