"""A hospital scores models at home, and the sums that leave are enough for the verdict."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.engine import Lineage, build_network, make_plan, write_bundle
from segfed.errors import CaseError, ConfigError
from segfed.evaluation import difference_for_these_sites
from segfed.evaluation.at_home import difference_over_sites, summarize_site
from segfed.files import write_json
from segfed.sites import load_site, load_task
from segfed.study.at_home import HomeRow, HomeScores, judge_at_home, score_at_home
from tests.study_samples import PLAN, make_site

CPU = torch.device("cpu")


def write_model(folder, arm, *, seed=0, saw=()):
    """A network of random weights that claims an arm."""
    plan = make_plan(load_task("kidney_tumor"), PLAN)
    lineage = Lineage(
        study="s",
        arm=arm,
        seed=seed,
        sites=("b",),
        data=("synthetic",),
        train_images={"b": tuple(saw)},
    )
    network = build_network(plan, seed=seed + (arm == "assisted"))
    write_bundle(folder, plan=plan, state=network.state_dict(), lineage=lineage, card="# A model")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    make_site(root, "a", seed=1)
    write_model(root / "manual", "manual")
    write_model(root / "assisted", "assisted")
    return root


@pytest.fixture(scope="module")
def scores(root):
    return score_at_home(load_site(root / "a"), [root / "manual", root / "assisted"], device=CPU)


def row_of(scores, quantity, structure="tumor", metric="dice"):
    (row,) = (
        r
        for r in scores.rows
        if (r.quantity, r.structure, r.metric) == (quantity, structure, metric)
    )
    return row


def test_sums_leave_and_no_case(scores, root):
    text = scores.model_dump_json()

    manual, assisted = row_of(scores, "manual"), row_of(scores, "assisted")
    difference = row_of(scores, "assisted minus manual")
    assert (manual.n, scores.n_withheld) == (2, 0)
    assert difference.mean == pytest.approx(assisted.mean - manual.mean, abs=2e-6)
    for case in load_site(root / "a").cases:
        assert case.case_id not in text
        assert case.image_sha256 not in text


def test_what_the_policy_withholds_stays(root):
    path = root / "a" / "site.toml"
    before = path.read_text()
    path.write_text(before.replace("minimum_metric_cases = 1", "minimum_metric_cases = 3"))
    try:
        scores = score_at_home(load_site(root / "a"), [root / "manual"], device=CPU)
    finally:
        path.write_text(before)

    assert scores.rows == ()
    assert scores.n_withheld > 0


def test_a_model_that_saw_a_test_image_is_refused(root, tmp_path):
    site = load_site(root / "a")
    seen = write_model(tmp_path / "seen", "manual", saw=[site.split("test")[0].image_sha256])

    with pytest.raises(CaseError, match="was trained on or chosen by"):
        score_at_home(site, [seen], device=CPU)


def test_a_model_given_twice_is_refused(root):
    with pytest.raises(ConfigError, match="given twice"):
        score_at_home(load_site(root / "a"), [root / "manual", root / "manual"], device=CPU)


def handed_over(site, differences, **changes):
    """A file of a site whose arms differ so in the tumor's Dice."""
    summary = summarize_site(differences)
    row = HomeRow(
        quantity="assisted minus manual",
        structure="tumor",
        metric="dice",
        mean=summary.mean,
        sd=summary.sd,
        n=summary.n,
        n_nan=summary.n_nan,
    )
    fields = {"task": "kidney_tumor", "external": False, "models": {"manual": ("1",)}}
    return HomeScores(site=site, rows=(row,), n_withheld=0, **(fields | changes))


def test_the_verdict_over_sites_follows_from_their_sums():
    rng = np.random.default_rng(0)
    values = {site: rng.normal(0.01, 0.02, n).tolist() for site, n in (("a", 30), ("b", 40))}

    verdict = judge_at_home([handed_over(s, v) for s, v in values.items()], margin=0.02)

    whole = difference_for_these_sites(
        {s: {f"{i:02}": x for i, x in enumerate(v)} for s, v in values.items()}, seed=0
    )
    found = verdict.structures["tumor"]
    assert verdict.is_non_inferior
    assert (found.mean, found.n) == (pytest.approx(whole.mean), 70)
    # The interval from the cases themselves is never narrower.
    assert whole.ci_low <= found.ci_low + 1e-12
    assert found.ci_low == pytest.approx(whole.ci_low, abs=2e-3)
    # How far out the worst case lies is not told: as far as it may.
    assert found.low_with_failures < whole.low_with_failures < whole.ci_low


def test_external_sites_and_sites_without_both_arms_decide_nothing():
    assert judge_at_home([handed_over("x", [0.1, 0.2], external=True)], margin=0.02) is None


def test_files_that_do_not_belong_together_are_refused():
    one, other = handed_over("a", [0.1, 0.2]), handed_over("b", [0.1], models={"manual": ("2",)})

    with pytest.raises(ConfigError, match="are of different models"):
        judge_at_home([one, other], margin=0.02)
    with pytest.raises(ConfigError, match="Several files are of one site"):
        judge_at_home([one, one], margin=0.02)
    with pytest.raises(ConfigError, match="No site compares mass"):
        judge_at_home([one], margin=0.02, structures=["mass"])
    with pytest.raises(ConfigError, match="Found a margin of 0, expected a positive loss"):
        judge_at_home([one], margin=0)


def test_sites_may_name_the_models_in_any_order():
    models = {"manual": ("1", "2"), "assisted": ("3",)}
    turned = {"assisted": ("3",), "manual": ("2", "1")}

    verdict = judge_at_home(
        [handed_over("a", [0.1, 0.2], models=models), handed_over("b", [0.1], models=turned)],
        margin=0.02,
    )

    assert verdict.structures["tumor"].n == 3


@pytest.mark.parametrize(("sd", "n"), [(-0.1, 9), (0.0, 1), (None, 2)])
def test_a_row_that_no_cases_can_have_is_refused(sd, n):
    content = handed_over("a", [0.1, 0.2]).model_dump(mode="json")
    content["rows"][0] |= {"sd": sd, "n": n}

    with pytest.raises(ValidationError, match=r"greater than or equal to 0|over n = "):
        HomeScores.model_validate(content)


def test_sums_of_few_cases_and_of_one_give_no_interval():
    few = difference_over_sites({"a": summarize_site([0.1, 0.2, 0.3])})
    one = difference_over_sites({"a": summarize_site([0.1] * 9), "b": summarize_site([0.1])})

    assert (few.ci_low, one.ci_low) == (None, None)
    assert "3 cases are too few" in few.reason
    assert "only one case" in one.reason
    assert summarize_site([float("nan")]) is None
    assert difference_over_sites({}).mean is None


def test_equal_differences_have_no_width():
    found = difference_over_sites({"a": summarize_site([0.25] * 9)})

    assert (found.mean, found.ci_low, found.ci_high) == (0.25, 0.25, 0.25)


def test_on_the_command_line_a_site_scores_and_an_owner_combines(root, tmp_path):
    out, bundles = tmp_path / "a.json", [root / "manual", root / "assisted"]
    options = [part for bundle in bundles for part in ("--model", str(bundle))]

    scored = CliRunner().invoke(
        app, ["site", "score", str(root / "a"), *options, "--out", str(out), "--device", "cpu"]
    )
    combined = CliRunner().invoke(app, ["study", "combine", str(out)])
    as_json = CliRunner().invoke(app, ["study", "combine", str(out), "--json"])

    assert scored.exit_code == combined.exit_code == 0, scored.output + combined.output
    assert "nothing was sent" in scored.output
    # Two cases are too few for an interval.
    assert "It is not shown that" in combined.output
    assert json.loads(as_json.output)["verdict"]["is_non_inferior"] is False


def test_a_file_that_is_no_scores_is_refused(tmp_path):
    write_json(tmp_path / "x.json", {"site": "a"})

    with pytest.raises(ConfigError, match="problem"):
        CliRunner().invoke(
            app, ["study", "combine", str(tmp_path / "x.json")], catch_exceptions=False
        )
