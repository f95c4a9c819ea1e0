"""The page is complete in itself, speaks to screen readers, and prints nothing but the report."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from segfed.report.build import build_report
from segfed.report.contribution import summarize_contributions
from segfed.report.leakage import summarize_attacks
from segfed.report.page import render_html
from segfed.report.write import HTML_FILE, REPORT_FILE, write_report
from segfed.study import ATTACKS_FILE
from segfed.study.contribution import CONTRIBUTION_FILE
from segfed.study.records import read_study
from tests.report_samples import write_run

CASES = {"a": 2, "b": 4}


def dice(model, site, case, structure):
    del site, structure
    return {"untrained": 0.0}.get(model.regime, 0.7) + int(case[-2:]) / 100


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("run"),
        dice=dice,
        cases=CASES,
        external={"x": 2},
        with_volumes=True,
        warnings=("a <b>warning</b> & more",),
    )


@pytest.fixture(scope="module")
def report(run):
    return build_report(run)


@pytest.fixture(scope="module")
def page(run):
    write_report(run)
    return (run / HTML_FILE).read_text()


def test_attacks_are_shown_where_somebody_attacked(run, report):
    row = {"advantage": 0.25, "advantage_low": 0.1, "advantage_high": 0.4, "auc": 0.7}
    row |= {"auc_low": 0.6, "auc_high": 0.8, "n_members": 9, "n_others": 5}
    model = {"regime": "local", "arm": "manual", "seed": 0, "train_site": "a", "attack": "loss"}
    seen = {"exposure": "gradient of one patch", "correlation": 0.6, "chance": 0.1}
    seen |= {"advantage": 0.5, "advantage_low": 0.3, "advantage_high": 0.7, "psnr_db": 20.0}
    seen |= {"chance_psnr_db": 12.0, "repeats": 3}
    content = {
        "study": "s", "privacy": {}, "seed": 0, "n_bootstrap": 50, "not_attacked": [],
        "membership": [{**model, "result": row}],
        "inversion": [{"model": "untrained, seed 0", "result": seen}],
    }  # fmt: skip
    (run / ATTACKS_FILE).write_text(json.dumps(content))
    try:
        with_attacks = render_html({**report, "attacks": summarize_attacks(run)})
    finally:
        (run / ATTACKS_FILE).unlink()

    assert "+0.25 (+0.10 to +0.40)" in with_attacks
    assert "+0.50 (+0.30 to +0.70)" in with_attacks
    assert report["attacks"] is None
    assert "What the models give away" not in render_html(report)


def contributions_of(models):
    """``contribution.json`` of some federated models."""
    low = {"mean": -0.02, "low": -0.04, "high": 0.01}
    site = {
        "site": "a",
        "own": low,
        "others": low,
        "shapley": {"mean": 0.3, "low": 0.2, "high": 0.4},
    }
    content = {
        "study": "s", "arm": "manual", "seeds": [0], "models": models, "n_orders": None,
        "n_bootstrap": 50, "n_cases": {"a": 7}, "sites": [site],
        "groups": [{"sites": ["a"], "dice": 0.6}],
    }  # fmt: skip
    return json.dumps(content)


def test_contributions_are_shown_where_somebody_measured_them(run, report):
    study = read_study(run)
    models = [model.sha256 for model in study.models if model.regime == "federated"]
    (run / CONTRIBUTION_FILE).write_text(contributions_of(models))
    try:
        contributions = summarize_contributions(run, study)
    finally:
        (run / CONTRIBUTION_FILE).unlink()

    with_contributions = render_html({**report, "contributions": contributions})

    assert "\N{MINUS SIGN}0.020 (\N{MINUS SIGN}0.040 to +0.010)" in with_contributions
    assert "+0.300 (+0.200 to +0.400)" in with_contributions
    assert contributions["groups"] == [{"sites": ["a"], "dice": 0.6}]
    assert report["contributions"] is None
    assert "What each site adds" not in render_html(report)


def test_contributions_to_a_model_of_before_are_left_out_with_a_warning(run):
    (run / CONTRIBUTION_FILE).write_text(contributions_of(["f" * 64]))
    try:
        outdated = build_report(run)
    finally:
        (run / CONTRIBUTION_FILE).unlink()

    assert "measured for other federated models" in outdated["warnings"][-1]
    assert 'id="contributions"' not in render_html(outdated)


class Outline(HTMLParser):
    """Tags with their attributes, and whether every one was closed in order."""

    VOID = frozenset(
        {"meta", "link", "br", "line", "circle", "polygon", "rect", "image", "path", "input"}
    )

    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open.pop() == tag


def outline(page):
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found.tags


def test_nothing_is_loaded_with_the_page(page):
    links = [
        value
        for tag, attributes in outline(page)
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "data", "action"}
    ]

    assert not [link for link in links if not link.startswith(("#", "data:"))]
    assert not [tag for tag, _ in outline(page) if tag in {"iframe", "object", "form"}]
    assert not re.search(r"url\((?!#)|@import", page)


def test_both_files_are_written(run, page):
    assert page.startswith("<!doctype html>")
    assert (run / REPORT_FILE).exists()


def test_the_finding_and_the_kind_of_data_come_first(page, report):
    visible = re.sub(r"<[^>]+>", " ", page.split("<header>")[1])

    assert visible.find(report["finding"]["headline"][:40]) < visible.find("synthetic data") < 3000


def test_text_from_records_is_escaped(page):
    assert "a &lt;b&gt;warning&lt;/b&gt; &amp; more" in page


def test_every_table_has_a_caption_and_headers_with_scope(page):
    tags = outline(page)
    n_tables = sum(tag == "table" for tag, _ in tags)

    assert n_tables == sum(tag == "caption" for tag, _ in tags) > 5
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")


def test_every_chart_and_picture_has_a_text_in_its_place(page):
    drawings = [attributes for tag, attributes in outline(page) if tag == "svg"]

    assert len(drawings) > 10
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawings)


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in outline(page) if re.fullmatch("h[1-6]", tag)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_external_sites_are_marked(page):
    assert len(re.findall(r'x <span class="tag">external</span>', page)) >= 2


def test_pictures_show_reference_and_both_arms(page):
    # Sites a, b and x, each with a best, a median and a worst case, as far as it has that many.
    assert page.count('class="contour reference"') == 2 + 3 + 2
    assert page.count('class="contour assisted"') == 7
    assert page.count("data:image/png;base64,") == 7


def test_intervals_for_new_models_and_sites_are_printed_or_their_absence_explained(report, page):
    assert "on the interval for new cases of these sites" in page
    assert "(no interval): 1 seed is too few to speak of new models" in page
    assert "(no interval): 2 sites are too few to speak of new ones" in page

    known = copy.deepcopy(report)
    primary = known["comparison"]["regimes"]["federated"]
    primary["estimand"] = "new_models"
    interval = {"mean": 0.01, "ci_low": -0.015, "ci_high": 0.035}
    primary["new_models"]["tumor"] = primary["new_sites"]["tumor"] = interval
    text = render_html(known)

    assert "on the interval for newly trained models" in text
    assert text.count("tumor +0.010 (\N{MINUS SIGN}0.015 to +0.035)") == 2


def test_missing_figures_are_shown_as_missing(report):
    without = copy.deepcopy(report)
    found = without["dice"]["federated"]["manual"]["tumor"]
    found.update(mean=None, ci_low=None, ci_high=None, n=0, n_nan=6)

    page = render_html(without)

    assert page.count('title="not available"') > render_html(report).count('title="not available"')
    assert "nan" not in re.sub(r"<[^>]+>", " ", page).lower().split()


def test_a_run_of_one_arm_without_federation_has_a_page(tmp_path):
    run = write_run(
        tmp_path,
        dice=dice,
        cases=CASES,
        external={},
        arms=("manual",),
        regimes=("local", "pooled"),
    )

    page = render_html(build_report(run))

    outline(page)
    assert 'id="labels"' not in page
    assert 'id="federation"' not in page
    assert 'id="seen"' not in page


def test_both_light_and_dark_are_served(page):
    assert "prefers-color-scheme: dark" in page
    assert '<meta name="color-scheme" content="light dark">' in page


def test_the_mixed_arm_stands_beside_the_others(tmp_path):
    run = write_run(
        tmp_path, dice=dice, cases=CASES, external={}, arms=("manual", "assisted", "mixed")
    )

    report = build_report(run)

    # 2 cases at a: 0.70 and 0.71; 4 at b: up to 0.73; the mean of 0.705 and 0.715.
    assert report["overall"]["federated"]["mixed"]["mean"] == pytest.approx(0.71)
    assert set(report["comparison"]["regimes"]) == {"local", "pooled", "ensemble", "federated"}
    assert 'class="arm mixed"' in render_html(report)


def test_each_pictured_case_can_be_opened_from_the_folder_beside_the_page(run, page):
    buttons = [a for tag, a in outline(page) if tag == "button" and a.get("class") == "open"]

    assert len([button for button in buttons if "id" in button]) == 7  # beside the pictures
    # And in the table of the worst cases, of which there are fewer than it could hold.
    listed = [button["data-title"] for button in buttons if "id" not in button]
    worst = read_report(run)["cases"]["cases"]
    assert listed == [f"{row['site']} / {row['case']}" for row in worst]
    assert len({button["data-case"] for button in buttons}) == len(worst)  # each written once
    assert all((run / button["data-case"]).is_file() for button in buttons)
    # Without scripts there is nothing to open.
    assert all("hidden" in button for button in buttons)


def read_report(run):
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def test_a_report_of_sites_elsewhere_has_no_viewer(report):
    page = render_html(report)

    assert not [tag for tag, _ in outline(page) if tag == "dialog"]
