"""Numbers as readers see them."""

from __future__ import annotations

import math

import pytest

from segfed.report.text import (
    MINUS,
    MISSING,
    duration,
    joined,
    number,
    phrase,
    prose,
    size,
)


@pytest.mark.parametrize(
    ("value", "digits", "signed", "expected"),
    [
        (0.8125, 3, False, "0.812"),
        (-0.02, 2, False, f"{MINUS}0.02"),
        (0.02, 2, True, "+0.02"),
        (-0.0001, 3, True, "0.000"),
        (None, 3, False, MISSING),
        (math.nan, 3, False, MISSING),
        (math.inf, 1, False, "∞"),
    ],
)
def test_a_number_has_a_real_minus_and_no_negative_zero(value, digits, signed, expected):
    assert number(value, digits, signed=signed) == expected


def test_a_phrase_says_what_is_missing():
    assert phrase({"mean": 0.5, "ci_low": 0.4, "ci_high": 0.61}) == "0.500 (0.400 to 0.610)"
    assert phrase({"mean": 0.5, "ci_low": None, "ci_high": None}) == "0.500 (no interval)"
    assert phrase({"mean": None, "ci_low": None, "ci_high": None}) == "not available"


def test_a_sentence_loses_its_underscores_and_hyphens_before_numbers():
    assert prose("kidney_and_mass -0.1 [-0.2, +0.1], non-inferior") == (
        f"kidney and mass {MINUS}0.1 [{MINUS}0.2, +0.1], non-inferior"
    )


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [(None, MISSING), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (19.3e6, "19.3 MB")],
)
def test_bytes_take_the_unit_that_reads_best(n_bytes, expected):
    assert size(n_bytes) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, MISSING),
        (2.34, "2.3 s"),
        (48.2, "48 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_seconds_are_said_as_a_person_says_them(seconds, expected):
    assert duration(seconds) == expected


def test_a_list_ends_with_and():
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
