"""How often each arm's labels repeat a proposal's errors, in figures and in words."""

from __future__ import annotations

import pytest

from segfed.files import write_rows
from segfed.report.anchoring import anchoring_warning, summarize_anchoring
from segfed.report.build import build_report
from segfed.report.page import render_html
from segfed.study.records import ANCHORING_FILE, AnchoringRow
from tests.report_samples import write_run

CASES = {"a": 4, "b": 4}


def row(site, case, arm, agreement, *, volume_mm3=500.0, reference="second", model="m"):
    is_error = agreement is not None
    return AnchoringRow(
        site, f"{site}{case}", arm, f"{arm}-reader", model, reference,
        volume_mm3 if is_error else None, agreement,
    )  # fmt: skip


def rows(repeated):
    """Four cases of two sites; manual readers repeat nothing, others in the cases named."""
    return [
        row(site, case, arm, 1.0 if arm == "assisted" and case in repeated else 0.0)
        for site in CASES
        for case in range(4)
        for arm in ("manual", "assisted")
    ]


def test_readers_who_repeat_errors_are_found():
    found = summarize_anchoring(rows({0, 1, 2}), tolerance_mm=6.0)

    assert found["difference"]["mean"] == pytest.approx(0.75)
    assert found["is_found"] is True
    assert "repeated its clear errors more often" in found["sentence"]
    assert "+75.0 percentage points" in found["sentence"]
    assert "errors of the proposing model" in anchoring_warning(found)[0]


def test_readers_who_repeat_nothing_are_not_accused():
    found = summarize_anchoring(rows(set()), tolerance_mm=6.0)

    assert found["is_found"] is False
    assert found["sentence"].startswith("No anchoring was found")
    assert anchoring_warning(found) == []


def test_small_and_large_errors_are_counted_by_themselves():
    found = summarize_anchoring(
        [
            row("a", 0, "assisted", 1.0, volume_mm3=999.0),
            row("a", 0, "assisted", 0.0, volume_mm3=1000.0),
            row("a", 1, "assisted", None),
            row("a", 2, "assisted", None, model=""),
            row("a", 3, "assisted", None, reference=""),
        ],
        tolerance_mm=6.0,
    )["arms"]["assisted"]

    assert (found["n_labels"], found["n_without_error"]) == (4, 1)
    assert (found["n_without_proposal"], found["n_without_reference"]) == (1, 1)
    assert found["small"] == {"n_errors": 1, "n_repeated": 1, "share": 1.0}
    assert found["large"] == {"n_errors": 1, "n_repeated": 0, "share": 0.0}


def test_without_references_the_report_says_what_to_do():
    found = summarize_anchoring(
        [row("a", case, "manual", None, reference="") for case in range(4)], tolerance_mm=6.0
    )

    assert found["is_found"] is None
    assert found["sentence"].startswith("Anchoring was not measured")
    assert "let a second reader draw" in anchoring_warning(found)[0]


def test_a_run_without_these_rows_says_nothing(tmp_path):
    run = write_run(tmp_path, dice=lambda *_: 0.7, cases=CASES, external={})

    report = build_report(run)

    assert report["anchoring"] is None
    assert 'id="anchoring"' not in render_html(report)


def test_the_page_shows_counts_and_verdict(tmp_path):
    run = write_run(tmp_path, dice=lambda *_: 0.7, cases=CASES, external={})
    write_rows(run / ANCHORING_FILE, rows({0, 1}), AnchoringRow)

    page = render_html(build_report(run))

    assert "<b>50 %</b> <small>4 of 8</small>" in page
    assert "<b>0 %</b> <small>0 of 8</small>" in page
