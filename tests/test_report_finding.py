"""The first lines of a report say what was found, and on what kind of data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segfed.report.build import build_report
from segfed.report.finding import data_statement
from segfed.report.text import MINUS
from segfed.study.records import SiteRecord
from tests.report_samples import write_run

CASES = {"a": 8, "b": 8}
ENOUGH = {"a": 33, "b": 34}
"""Below 67 cases no label arm is called as good as the other at a margin of 0.02."""


def constant(values):
    """A Dice for each regime, with a little spread between cases; assisted ones lose ``loss``."""

    def dice(model, site, case, structure):
        del site, structure
        spread = int(case[-2:]) / 500
        return values[model.regime] + spread - (values["loss"] if model.arm == "assisted" else 0)

    return dice


BASE = {"untrained": 0.05, "local": 0.6, "ensemble": 0.65, "federated": 0.8, "pooled": 0.82}


def finding_of(tmp_path, values, *, cases=CASES, **options):
    run = write_run(
        tmp_path, dice=constant({"loss": 0.0} | values), cases=cases, external={}, **options
    )
    return build_report(run)["finding"]


def test_equal_arms_are_no_worse(tmp_path):
    finding = finding_of(tmp_path, BASE | {"loss": 0.001}, cases=ENOUGH)

    assert finding["headline"].startswith(
        "AI-assisted labels trained as good a federated model as manual labels"
    )
    # Every case loses exactly 0.001, so that the interval has no width.
    loss = f"{MINUS}0.001"
    expected = f"Assisted minus manual, federated: {loss} ({loss} to {loss}) Dice"
    assert finding["sentences"][0].startswith(expected)


def test_few_cases_are_no_ground_for_a_verdict(tmp_path):
    finding = finding_of(tmp_path, BASE | {"loss": 0.001})

    assert finding["headline"].startswith("It is not shown")
    assert "tumor cannot be judged from 16 cases (it takes 67)" in finding["headline"]


def test_a_loss_beyond_the_margin_is_not_hidden(tmp_path):
    finding = finding_of(tmp_path, BASE | {"loss": 0.05})

    assert finding["headline"].startswith("It is not shown")
    assert "kidney and mass, mass and tumor may lose more than 0.02 Dice" in finding["headline"]


def test_with_five_seeds_the_interval_is_that_for_newly_trained_models(tmp_path):
    finding = finding_of(
        tmp_path,
        BASE | {"loss": 0.001},
        cases=ENOUGH,
        regimes=("pooled",),
        seeds=(0, 1, 2, 3, 4),
    )

    assert finding["headline"].startswith("AI-assisted labels trained as good a pooled model")
    expected = "95 % interval over 67 test cases of 2 sites and 5 training seeds."
    assert finding["sentences"][0].endswith(expected)


def test_an_ensemble_that_is_as_good_is_said_in_the_first_lines(tmp_path):
    finding = finding_of(tmp_path, BASE | {"ensemble": 0.81})

    assert any("does not beat the ensemble" in sentence for sentence in finding["sentences"])


def test_one_arm_is_described_by_its_federated_model(tmp_path):
    finding = finding_of(tmp_path, BASE, arms=("manual",))

    # Cases differ by 0 to 7 times 0.002: 0.8 + 0.007.
    assert finding["headline"].startswith("The federated model (manual labels) reaches a mean")
    assert "0.807" in finding["headline"]
    assert "the untrained network, 0.057" in finding["headline"]


def test_without_a_federation_every_regime_is_described(tmp_path):
    finding = finding_of(tmp_path, BASE, arms=("manual",), regimes=("local", "pooled"))

    words = " ".join([finding["headline"], *finding["sentences"]])
    assert "The local model reaches" in words
    assert "The pooled model reaches" in words


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("synthetic", "say nothing about patients"),
        ("rendered", "rendered from real masks"),
        ("real", "Real images"),
    ],
)
def test_the_kind_of_data_is_stated(kind, expected):
    found = data_statement([site("a", kind)])

    assert found["kinds"] == [kind]
    assert expected in found["statement"]


def test_sites_of_different_kinds_are_named_each():
    found = data_statement([site("a", "real"), site("b", "synthetic")])

    assert found["kinds"] == ["real", "synthetic"]
    assert "a: Real images" in found["statement"]
    assert "b: Synthetic images" in found["statement"]


def site(name, kind):
    return SiteRecord(
        name=name,
        folder=Path(name),
        data=kind,
        external=False,
        n_train={},
        n_validation=0,
        n_test=1,
    )


def test_what_a_late_site_changed_at_the_others_is_said(tmp_path):
    run = write_run(
        tmp_path, dice=constant({"loss": 0.0} | BASE), cases=CASES, external={}, seeds=(0,)
    )
    metrics = sorted(run.rglob("metrics.jsonl"))[0]
    rounds = [json.loads(line) for line in metrics.read_text().splitlines()][:2]
    for number, record in enumerate(rounds):
        there = {"steps": 2.0, "dice_kidney": 0.8 - 0.1 * number}
        record["sites"] = {"a": there, "late": {"steps": 2.0 if number else None}}
    metrics.write_text("".join(json.dumps(record) + "\n" for record in rounds))
    state = json.loads(metrics.with_name("state.json").read_text())
    metrics.with_name("state.json").write_text(json.dumps(state | {"rounds_done": 2}))

    (warning,) = [text for text in build_report(run)["warnings"] if "joined" in text]

    assert "late joined in round 2 of the federation" in warning
    assert "Validation Dice of a changed by -0.100 from the 1 round before" in warning


def test_a_site_whose_updates_looked_wrong_is_named_once_with_the_rounds(tmp_path):
    run = write_run(
        tmp_path, dice=constant({"loss": 0.0} | BASE), cases=CASES, external={}, seeds=(0,)
    )
    metrics = sorted(run.rglob("metrics.jsonl"))[0]
    rounds = [json.loads(line) for line in metrics.read_text().splitlines()]
    for record in rounds[:2]:
        record["suspects"] = {"b": "its cosine with the others is -0.5, usual is 0.7"}
    metrics.write_text("".join(json.dumps(record) + "\n" for record in rounds))

    warnings = [text for text in build_report(run)["warnings"] if "looked unlike" in text]

    assert len(warnings) == 1
    assert f"In 2 of {len(rounds)} rounds" in warnings[0]
    assert "the update of b looked unlike the others: its cosine" in warnings[0]
