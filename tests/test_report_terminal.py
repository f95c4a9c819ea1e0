"""The table at the end of a study."""

from __future__ import annotations

from rich.console import Console

from segfed.report.build import build_report
from segfed.report.terminal import summary_table
from tests.report_samples import write_run


def dice(model, site, case, structure):
    del model, structure
    return (0.4 if site == "x" else 0.7) + int(case[-2:]) / 1000


def printed(report):
    console = Console(width=80, record=True, quiet=False)
    with console.capture() as capture:
        console.print(summary_table(report))
    return capture.get()


def test_each_regime_and_arm_has_a_line_that_fits_a_terminal(tmp_path):
    text = printed(
        build_report(write_run(tmp_path, dice=dice, cases={"a": 5, "b": 5}, external={"x": 5}))
    )

    # Thousandths 0 to 4 over five cases: 0.7 + 0.002, and 0.4 + 0.002 outside.
    line = next(line for line in text.splitlines() if "federated" in line and "assisted" in line)
    assert line.count("0.702") == 3
    assert "0.402" in line
    assert "synthetic data" in text
    assert "at x (external)" in text
