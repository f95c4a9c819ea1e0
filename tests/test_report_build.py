"""Every number of ``report.json``, on records small enough to work out by hand."""

from __future__ import annotations

import json
import math

import pytest

from segfed.errors import ConfigError
from segfed.files import write_rows
from segfed.report.build import build_report
from segfed.report.terminal import summary_table
from segfed.report.values import MEAN_OF_STRUCTURES
from segfed.report.write import HTML_FILE, write_report
from segfed.study.records import SCORES_FILE, ScoreRow
from tests.report_samples import STRUCTURES, write_run

CASES = {"a": 2, "b": 4}
ENOUGH = {"a": 33, "b": 34}
"""Cases for which intervals of differences are given."""
LOCAL = {("a", "a"): 0.7, ("a", "b"): 0.3, ("b", "a"): 0.1, ("b", "b"): 0.5}
SHARED = {"federated": {"a": 0.8, "b": 0.6}, "ensemble": {"a": 0.5, "b": 0.5}}


def dice(model, site, case, structure):
    """The same for all structures; assisted models lose 0.1 at site a."""
    del case, structure
    if model.regime == "untrained":
        return 0.0
    if site == "x":
        return 0.4
    if model.regime == "local":
        value = LOCAL[model.train_site, site]
    else:
        value = SHARED.get(model.regime, {"a": 0.9, "b": 0.9})[site]
    return value - (0.1 if model.arm == "assisted" and site == "a" else 0.0)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("run"), dice=dice, cases=CASES, external={"x": 3})
    return build_report(run)


def test_a_score_is_the_mean_of_the_sites_means_not_of_the_cases(report):
    found = report["dice"]["federated"]["manual"]["tumor"]

    # (0.8 + 0.6) / 2; over the six cases it would be (2 x 0.8 + 4 x 0.6) / 6 = 0.667.
    assert found["mean"] == pytest.approx(0.7)
    assert (found["n"], found["n_nan"]) == (6, 0)


def test_local_averages_over_all_sites_models(report):
    # Site a: (0.7 + 0.1) / 2 = 0.4; site b: (0.3 + 0.5) / 2 = 0.4.
    assert report["dice"]["local"]["manual"]["mass"]["mean"] == pytest.approx(0.4)


def test_every_regime_has_every_arm_structure_and_metric(report):
    for metric in ("dice", "surface_dice", "hd95_mm"):
        for regime in ("local", "pooled", "ensemble", "federated"):
            assert set(report[metric][regime]) == {"manual", "assisted"}
            assert set(report[metric][regime]["manual"]) == set(STRUCTURES)
        assert set(report[metric]["untrained"]) == {"none"}


def test_infinite_distances_are_counted_and_left_out_of_the_mean(report):
    # The untrained network scores 0 everywhere, which the records pair with infinite distances.
    found = report["hd95_mm"]["untrained"]["none"]["tumor"]

    assert found["mean"] is None
    assert found["median"] is None
    assert found["n_infinite"] == 6


def test_sites_and_external_sites_have_figures_of_their_own(report):
    assert set(report["sites"]) == {"a", "b"}
    assert set(report["external"]) == {"x"}
    assert report["sites"]["a"]["dice"]["federated"]["manual"]["tumor"]["mean"] == pytest.approx(
        0.8
    )
    assert report["sites"]["b"]["own_local_model"]["manual"]["mean"] == pytest.approx(0.5)
    assert report["external"]["x"]["own_local_model"] == {}
    assert report["external_overall"]["pooled"]["manual"]["mean"] == pytest.approx(0.4)


def test_the_matrix_has_a_row_a_model_and_a_column_a_test_site(report):
    matrix = report["matrix"]["manual"][MEAN_OF_STRUCTURES]

    assert list(matrix) == ["a", "b", "ensemble", "federated", "pooled"]
    assert list(matrix["a"]) == ["a", "b", "x"]
    assert matrix["b"]["a"]["mean"] == pytest.approx(0.1)
    assert matrix["b"]["a"]["is_ranked"] is False  # two cases


def test_the_worst_site_is_named_among_those_with_enough_cases(tmp_path):
    run = write_run(tmp_path, dice=dice, cases={"a": 5, "b": 5}, external={})

    worst = build_report(run)["worst_site"]

    assert worst["federated"] == {"manual": "b", "assisted": "b"}  # 0.6 against 0.8 and 0.7
    # Local models reach 0.4 at both, and the assisted ones lose 0.1 at a.
    assert worst["local"]["assisted"] == "a"


def test_two_cases_are_too_few_to_be_called_the_worst(report):
    # Site a has two cases, b four.
    assert report["worst_site"]["federated"]["manual"] is None


def test_gain_is_measured_against_home_and_away(report):
    gain = report["gain"]["manual"]["tumor"]

    assert gain["local_performance"] == pytest.approx(0.6)  # (0.7 + 0.5) / 2
    assert gain["generalizability"] == pytest.approx(0.2)  # (0.3 + 0.1) / 2
    assert gain["gain_over_local"]["points"] == pytest.approx(0.1)
    assert gain["gain_over_local"]["relative"] == pytest.approx(1 / 6)


def test_the_share_of_the_gap_is_that_of_means_over_enough_cases(tmp_path, report):
    dice = {"untrained": 0.0, "local": 0.4, "ensemble": 0.5, "federated": 0.7, "pooled": 0.9}
    run = write_run(
        tmp_path, dice=lambda model, *_: dice[model.regime], cases={"a": 4, "b": 4}, external={}
    )

    share = build_report(run)["gain"]["manual"]["tumor"]["gap_share"]

    assert share["share"] == pytest.approx(0.6)  # (0.7 - 0.4) / (0.9 - 0.4)
    # Of six cases no interval is given, and so no share.
    assert report["gain"]["manual"]["tumor"]["gap_share"]["share"] is None


def test_the_comparison_is_assisted_minus_manual_with_its_verdict(report):
    comparison = report["comparison"]
    federated = comparison["regimes"]["federated"]

    assert comparison["primary_regime"] == "federated"
    assert comparison["design"] == "crossover"
    # -0.1 at site a and 0 at site b.
    assert federated["structures"]["tumor"]["mean"] == pytest.approx(-0.05)
    assert federated["structures"]["tumor"]["sites"]["a"]["mean"] == pytest.approx(-0.1)
    assert federated["is_non_inferior"] is False
    assert federated["new_sites"]["tumor"]["ci_low"] is None  # two sites are too few


def test_effort_is_averaged_over_what_was_recorded(report):
    effort = report["effort"]
    assisted = effort["arms"]["assisted"]

    # The first of a's two cases and the first of b's four were accepted unchanged.
    assert (assisted["n"], assisted["accepted_unchanged"]) == (6, pytest.approx(2 / 6))
    # Added mm³: 0, 100 at a; 0, 100, 200, 300 at b.
    assert assisted["added_mm3_mean"] == pytest.approx(700 / 6)
    assert effort["arms"]["manual"]["accepted_unchanged"] is None
    assert effort["arms"]["manual"]["changed_fraction_median"] is None
    assert effort["time_ratio"]["ratio"] == pytest.approx(0.5)  # 300 s over 600 s


def test_the_federation_is_summed_over_its_rounds(report):
    first = report["federation"][0]

    # Four rounds, in which a site takes 2 s and 1000 bytes go each way.
    assert (first["arm"], first["rounds"], first["best_round"]) == ("manual", 4, 4)
    assert first["sites"]["a"] == {"seconds": 8.0, "bytes_down": 4000.0, "bytes_up": 4000.0}
    assert [point["round"] for point in first["convergence"]] == [1, 2, 3, 4]


def test_one_seed_is_warned_of(report):
    assert any(warning.startswith("1 training seed:") for warning in report["warnings"])


def test_the_report_is_json_without_nan(report):
    json.dumps(report, allow_nan=False)


def test_the_same_records_give_the_same_report(tmp_path):
    run = write_run(tmp_path, dice=dice, cases=CASES, external={})

    assert build_report(run) == build_report(run)


def test_a_run_of_one_arm_and_regime_has_no_comparison_and_no_gain(tmp_path):
    run = write_run(
        tmp_path, dice=dice, cases=CASES, external={}, arms=("manual",), regimes=("pooled",)
    )

    report = build_report(run)

    assert report["comparison"] is None
    assert report["gain"]["manual"]["tumor"] is None
    assert report["federation"] == []
    assert report["external"] == {}


def by_chance(model, site, case, structure):
    """Assisted minus manual is -0.05, 0, 0, 0 and 0.05 in the five seeds, whatever the case."""
    del site, case, structure
    shift = {0: -0.05, 4: 0.05}.get(model.seed, 0.0)
    return 0.5 + (shift if model.arm == "assisted" else 0.0)


def test_with_five_seeds_the_verdict_bears_the_chance_of_training(tmp_path):
    run = write_run(
        tmp_path, dice=by_chance, cases=ENOUGH, external={}, regimes=("pooled",), seeds=range(5)
    )

    found = build_report(run)["comparison"]["regimes"]["pooled"]

    # Cases never differ: for these models the interval has no width and keeps the margin.
    assert found["structures"]["tumor"]["ci_low"] == pytest.approx(0.0)
    # Variance between seeds 2 x 0.05² / 4 = 0.00125, of their mean 0.00025; t with 4 degrees of
    # freedom is 2.776: 2.776 x 0.01581 = 0.0439, more than the margin of 0.02.
    assert found["estimand"] == "new_models"
    assert found["new_models"]["tumor"]["ci_low"] == pytest.approx(-0.0439, abs=1e-4)
    assert found["is_non_inferior"] is False
    assert found["structures"]["tumor"]["keeps_margin"] is False


def test_with_four_seeds_the_verdict_speaks_of_these_models(tmp_path):
    # Seeds 1 to 4: the mean difference is 0.05 / 4 for every case.
    run = write_run(
        tmp_path, dice=by_chance, cases=ENOUGH, external={}, regimes=("pooled",), seeds=range(1, 5)
    )

    report = build_report(run)

    found = report["comparison"]["regimes"]["pooled"]
    assert found["estimand"] == "these_sites"
    assert found["is_non_inferior"] is True
    assert found["new_models"]["tumor"]["ci_low"] is None
    assert any(warning.startswith("4 training seeds:") for warning in report["warnings"])


def nan_once(model, site, case, structure):
    """A tumor that nobody has, which models of manual labels predict and others do not."""
    del site, case
    if structure == "tumor":
        return math.nan if model.arm == "assisted" else 0.0
    return 0.8 if model.arm == "assisted" else 0.6


def test_a_mean_of_differences_covers_the_structures_that_both_arms_have(tmp_path):
    run = write_run(tmp_path, dice=nan_once, cases=CASES, external={}, regimes=("pooled",))

    report = build_report(run)

    found = report["comparison"]["regimes"]["pooled"]["structures"]
    # Two structures gain 0.8 - 0.6; the means of each arm's own structures would differ by
    # 1.6 / 2 - 1.2 / 3 = 0.4. The tumor of the six cases is defined for manual models only.
    assert found[MEAN_OF_STRUCTURES]["mean"] == pytest.approx(0.2)
    assert found[MEAN_OF_STRUCTURES]["n_one_sided"] == found["tumor"]["n_one_sided"] == 6
    assert found["mass"]["n_one_sided"] == 0
    assert any(warning.startswith("6 structures of test") for warning in report["warnings"])


def false_tumor(model, site, case, structure):
    """Only the pooled model predicts a tumor that nobody has, which scores 0."""
    del site, case
    if structure == "tumor":
        return 0.0 if model.regime == "pooled" else math.nan
    return {"local": 0.4, "federated": 0.7}.get(model.regime, 0.8)


def test_the_federated_model_and_its_rivals_are_compared_on_the_same_structures(tmp_path):
    cases = {"a": 4, "b": 4}
    run = write_run(tmp_path, dice=false_tumor, cases=cases, external={}, arms=("manual",))

    report = build_report(run)

    found = report["federated_minus"]["manual"]["pooled"][MEAN_OF_STRUCTURES]
    # 0.7 - 0.8; with the pooled model's tumor it would be 0.7 - 1.6 / 3 = +0.167.
    assert found["mean"] == pytest.approx(-0.1)
    assert found["n_one_sided"] == 8
    # (0.7 - 0.4) / (0.8 - 0.4)
    gap = report["gain"]["manual"][MEAN_OF_STRUCTURES]["gap_share"]
    assert gap["share"] == pytest.approx(0.75)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected the folder of a finished study"):
        build_report(tmp_path)


def test_a_study_that_was_trained_to_propose_is_not_reported(tmp_path):
    run = write_run(tmp_path, dice=dice, cases=CASES, external={})
    write_rows(run / SCORES_FILE, [], ScoreRow)  # the header alone

    with pytest.raises(ConfigError, match=r"not scored; publish it with `segfed model publish`"):
        build_report(run)


def by_seed(model, site, case, structure):
    """Seed 1 scores 0.3 more; assisted labels 0.1 less."""
    del site, case, structure
    return 0.5 + 0.3 * model.seed - (0.1 if model.arm == "assisted" else 0.0)


def test_arms_are_compared_on_the_seeds_that_both_have(tmp_path):
    run = write_run(
        tmp_path,
        dice=by_seed,
        cases=CASES,
        external={},
        seeds=(0, 1),
        not_run=lambda model: (model.arm, model.seed) == ("assisted", 1),
    )

    report = build_report(run)

    found = report["comparison"]["regimes"]["federated"]
    # Over all seeds it would be 0.4 - 0.65.
    assert found["structures"]["tumor"]["mean"] == pytest.approx(-0.1)
    assert found["n_seeds"] == 1
    assert report["runs"]["federated"]["assisted"] == {"n_models": 1, "n_not_run": 1, "seeds": [0]}
    # 2 local, pooled, federated and ensemble
    assert len(report["not_run"]) == 5
    assert "5 of the study's models were not run" in report["warnings"][0]
    assert "federated assisted, seed 1" in report["warnings"][0]


@pytest.mark.parametrize(
    "missing",
    [
        lambda model: model.regime not in ("untrained", "local"),
        lambda model: model.regime != "untrained" and model.regime != "federated",
        lambda model: model.regime == "federated" and model.arm == "manual",
        lambda model: model.train_site == "a" or model.regime == "ensemble",
        lambda model: model.regime != "untrained" and model.arm == "manual",
        lambda model: model.seed == 0,
        lambda model: model.regime == "untrained" and model.seed == 1,
    ],
)
def test_a_study_run_in_part_has_a_report_that_says_so(tmp_path, missing):
    run = write_run(
        tmp_path,
        dice=by_seed,
        cases={"a": 2, "b": 2},
        external={},
        seeds=(0, 1),
        not_run=missing,
        with_volumes=True,
    )

    report = write_report(run)

    assert any("were not run" in warning for warning in report["warnings"])
    assert "models not run" in (run / HTML_FILE).read_text()
    assert summary_table(report).row_count


def test_local_models_of_some_sites_are_compared_with_nothing(tmp_path):
    run = write_run(
        tmp_path,
        dice=by_seed,
        cases=CASES,
        external={},
        not_run=lambda model: (model.regime, model.train_site) == ("local", "a"),
    )

    report = build_report(run)

    assert report["federated_minus"]["manual"].keys() == {"ensemble", "pooled"}
    assert report["gain"]["manual"]["tumor"] is None
    assert "local" not in report["comparison"]["regimes"]
