"""The report of an evaluation at home says what came from the hospitals, and what did not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.errors import ConfigError
from segfed.evaluation.at_home import summarize_site
from segfed.files import write_json
from segfed.report.home import build_home_report, render_home_report
from segfed.study.at_home import DIFFERENCE, HomeRow, HomeScores

MODELS = {"manual": ("ab" * 32,), "assisted": ("cd" * 32,)}


def row(quantity, values, structure="tumor"):
    summary = summarize_site(values)
    return HomeRow(
        quantity=quantity,
        structure=structure,
        metric="dice",
        mean=summary.mean,
        sd=summary.sd,
        n=summary.n,
        n_nan=summary.n_nan,
    )


def handed_over(site, *, n=25, shift=0.0, external=False, n_withheld=0, arms=True):
    """A site whose arms differ by ``shift`` Dice on average."""
    rng = np.random.default_rng(len(site))
    manual = rng.normal(0.8, 0.05, n)
    assisted = manual + shift + rng.normal(0, 0.01, n)
    rows = [row("manual", manual)]
    if arms:
        rows += [row("assisted", assisted), row(DIFFERENCE, assisted - manual)]
    return HomeScores(
        site=site,
        task="kidney_tumor",
        external=external,
        models=MODELS,
        rows=tuple(rows),
        n_withheld=n_withheld,
    )


SITES = [handed_over("north"), handed_over("south-west"), handed_over("lake", n=30)]


def test_the_verdict_heads_the_page_and_every_site_has_its_rows():
    report = build_home_report(SITES, margin=0.02)
    page = render_home_report(report)

    assert report["comparison"]["is_non_inferior"]
    assert "<h1>AI-assisted labels trained as good a model as manual labels.</h1>" in page
    assert list(report["comparison"]["structures"]["tumor"]["sites"]) == [s.site for s in SITES]
    for site in SITES:
        for of in site.rows:
            assert f"{abs(of.mean):.3f}</b> <small>SD {of.sd:.3f}, {of.n} cases" in page
    json.dumps(report, allow_nan=False)


def test_what_is_missing_is_said():
    sites = [
        handed_over("north", n_withheld=3),
        handed_over("south", arms=False),
        handed_over("far", external=True),
    ]

    report = build_home_report(sites, margin=0.02)
    page = render_home_report(report)

    assert "The policy of north withheld 3 rows" in report["warnings"][0]
    assert report["warnings"][1] == "south: no comparison of the arms came from there."
    assert "far: took no part in training" in report["warnings"][2]
    assert 'title="not handed over"' in page
    # Only north compares the arms: 25 cases are too few for a verdict.
    assert list(report["comparison"]["structures"]["tumor"]["sites"]) == ["north"]
    assert "not shown: cannot be judged from 25 cases" in page


def test_without_both_arms_there_is_no_verdict_and_still_a_page():
    report = build_home_report([handed_over("north", arms=False)], margin=0.02)

    assert report["comparison"] is None
    assert "<h1>No verdict on the label arms.</h1>" in render_home_report(report)


def test_a_site_s_name_is_text_on_the_page():
    page = render_home_report(build_home_report([handed_over("<b>x</b>")], margin=0.02))

    assert "<b>x</b>" not in page


def test_the_command_writes_the_report_beside_its_json(tmp_path):
    files = [tmp_path / f"{of.site}.json" for of in SITES]
    for path, of in zip(files, SITES, strict=True):
        write_json(path, of.model_dump(mode="json"))

    done = CliRunner().invoke(
        app, ["study", "combine", *map(str, files), "--out", str(tmp_path / "out")]
    )

    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["comparison"]["is_non_inferior"]
    assert "<h1>" in (tmp_path / "out" / "report.html").read_text()


def test_files_of_different_models_make_no_report():
    other = SITES[1].model_copy(update={"models": {"manual": ("1",)}})

    with pytest.raises(ConfigError, match="are of different models"):
        build_home_report([SITES[0], other], margin=0.02)
