"""The shapes that charts are drawn from."""

from __future__ import annotations

import pytest

from segfed.report.svg import figure, linear, round_ticks, spread, text


def test_a_scale_maps_its_ends_and_its_middle():
    x = linear(0.2, 0.6, 100, 300)

    assert (x(0.2), x(0.6), x(0.4)) == pytest.approx((100, 300, 200))


def test_a_scale_without_extent_maps_to_the_middle():
    assert linear(0.5, 0.5, 100, 300)(0.5) == pytest.approx(200)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 600, [0, 200, 400, 600]),
        (-0.07, 0.05, [-0.05, 0, 0.05]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, expected):
    assert round_ticks(low, high, wanted=3) == pytest.approx(expected)


def test_labels_that_overlap_are_pushed_apart_evenly_and_keep_their_order():
    # 10 and 12 overlap by 8: each moves 4. 50 stays.
    assert spread([12, 10, 50], gap=10) == pytest.approx([16, 6, 50])


def test_words_are_escaped():
    assert "&lt;b&gt;" in text(0, 0, "<b>")
    assert "&quot;" in figure([], width=1, height=1, title='a "b"', description="c")
