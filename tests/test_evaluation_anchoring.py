"""Errors of proposals that labels repeat, and how much more often where readers saw them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segfed.evaluation import anchoring_gap, proposal_errors
from segfed.evaluation.anchoring import ProposalError
from segfed.phantom.readers import Reader, correct, draw

SHAPE, SPACING_MM = (30, 24, 12), (1.0, 2.0, 3.0)


def block(i, j, k, value=1):
    """A label with one block."""
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[slice(*i), slice(*j), slice(*k)] = value
    return label


KIDNEY = block((4, 20), (4, 16), (2, 10))


def errors(proposal, label, *, reference=KIDNEY, tolerance_mm=4.0):
    return proposal_errors(
        proposal, reference, label, spacing_mm=SPACING_MM, tolerance_mm=tolerance_mm
    )


def test_contours_within_the_tolerance_are_no_error():
    # Four voxels of 1 mm too long
    assert errors(block((4, 24), (4, 16), (2, 10)), KIDNEY) == ()


def test_what_lies_further_off_is_one_error_with_its_volume():
    proposal = block((4, 26), (4, 16), (2, 10))

    (found,) = errors(proposal, KIDNEY)

    # Planes 24 and 25 are 5 and 6 mm from the reference: 2 x 12 x 8 voxels of 6 mm3.
    assert found == ProposalError(volume_mm3=2 * 12 * 8 * 6.0, agreement=0.0)


def test_a_label_that_keeps_the_error_agrees_with_it():
    proposal = block((4, 26), (4, 16), (2, 10))
    halved = block((4, 25), (4, 16), (2, 10))

    assert errors(proposal, proposal)[0].agreement == 1.0
    assert errors(proposal, halved)[0].agreement == 0.5
    assert errors(proposal, halved)[0].is_repeated


def test_a_missed_structure_is_an_error_as_deep_as_it_lies():
    tumor = KIDNEY.copy()
    tumor[8:18, 6:14, 4:8] = 2  # 10 x 16 x 12 mm: no more than 5 or 6 mm from its rim

    assert errors(KIDNEY, tumor, reference=tumor, tolerance_mm=7.0) == ()
    assert len(errors(KIDNEY, KIDNEY, reference=tumor)) == 1
    assert errors(KIDNEY, tumor, reference=tumor)[0].agreement == 0.0


def test_a_value_that_the_reference_has_nowhere_is_wrong_everywhere():
    cyst = KIDNEY.copy()
    cyst[5, 5, 3] = 3

    (found,) = errors(cyst, KIDNEY)

    assert found.volume_mm3 == 6.0


def test_an_empty_proposal_misses_the_whole():
    nothing = np.zeros(SHAPE, dtype=np.uint8)

    assert errors(nothing, nothing)[0].agreement == 1.0
    assert errors(nothing, nothing, reference=nothing) == ()


@given(seed=st.integers(0, 1000), tolerance_mm=st.floats(1, 9))
def test_cutting_out_what_matters_changes_nothing(seed, tolerance_mm):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 3, size=(2, 4, 4, 3)).astype(np.uint8)
    proposal, reference = (np.pad(label, 12) for label in small)

    found = proposal_errors(
        proposal, reference, reference, spacing_mm=SPACING_MM, tolerance_mm=tolerance_mm
    )

    # The whole volume by brute force: each wrong voxel's nearest voxel of the proposed value.
    n_clear = 0
    for place in np.argwhere(proposal != reference):
        same = np.argwhere(reference == proposal[tuple(place)])
        offsets = (same - place) * SPACING_MM
        nearest = min(np.linalg.norm(offsets, axis=1), default=math.inf)
        n_clear += nearest > tolerance_mm
    assert sum(error.volume_mm3 for error in found) == pytest.approx(6.0 * n_clear)


def test_a_simulated_reader_who_accepts_everything_repeats_every_error():
    proposal = block((4, 28), (4, 16), (2, 10))
    anchored = Reader(name="r", anchoring=1.0, contour_sd_mm=0.5)
    arguments = {"spacing_mm": SPACING_MM}
    accepted = correct(proposal, KIDNEY, anchored, rng=np.random.default_rng(0), **arguments)
    careful = anchored.model_copy(update={"anchoring": 0.0})
    corrected = correct(proposal, KIDNEY, careful, rng=np.random.default_rng(0), **arguments)
    by_hand = draw(KIDNEY, careful, rng=np.random.default_rng(0), **arguments)

    assert [error.is_repeated for error in errors(proposal, accepted.label)] == [True]
    assert [error.is_repeated for error in errors(proposal, corrected.label)] == [False]
    assert [error.is_repeated for error in errors(proposal, by_hand.label)] == [False]


def test_pairs_that_all_differ_by_the_same_have_that_difference():
    manual = {"a": {"1": 0.0, "2": 0.5}, "b": {"1": 0.25, "2": 0.0}}
    assisted = {site: {c: v + 0.25 for c, v in cases.items()} for site, cases in manual.items()}

    found = anchoring_gap(manual, assisted)

    assert (found.mean, found.ci_low, found.ci_high, found.n) == pytest.approx((0.25,) * 3 + (8,))


def test_arms_on_other_cases_have_the_interval_of_two_samples():
    manual = {"a": {"1": 0.0, "2": 0.0, "3": 0.3}}
    assisted = {"a": {"4": 0.5, "5": 1.0, "6": 0.6}}

    found = anchoring_gap(manual, assisted)

    # Means 0.1 and 0.7; variances 0.03 and 0.07 over 3 each; t(0.975, 4 df) = 2.776445
    half = 2.776445 * math.sqrt((0.03 + 0.07) / 3)
    assert found.mean == pytest.approx(0.6)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.6 - half, 0.6 + half), abs=1e-5)


def test_cases_without_an_error_and_sites_without_an_arm_are_left_out():
    manual = {"a": {"1": 0.0, "2": math.nan, "3": 0.2}, "b": {"1": 0.9}}
    assisted = {"a": {"1": 0.5, "3": 0.5}, "b": {"1": math.nan}}

    found = anchoring_gap(manual, assisted)

    assert found.mean == pytest.approx(0.4)
    assert (found.n, found.n_nan) == (4, 3)


def test_one_case_and_no_case_give_no_interval():
    one = anchoring_gap({"a": {"1": 0.0}}, {"a": {"1": 1.0, "2": 1.0}})
    none = anchoring_gap({"a": {"1": math.nan}}, {"b": {"1": 1.0}})

    assert (one.mean, one.ci_low) == (1.0, None)
    assert "only one case with a clear error in an arm at a" in one.reason
    assert none.mean is None
    assert "no site has cases of both arms" in none.reason
