"""What a fact says follows from the records; where they are silent, so is the fact."""

from __future__ import annotations

import copy

import pytest

from segfed.report.build import build_report
from segfed.report.facts import FACTS
from segfed.rules import PrivacyRules
from segfed.study.card import model_card
from segfed.study.records import PatientCounts, read_study, write_study
from tests.report_samples import write_run


def dice(model, site, case, structure):
    """The federated models miss the tumor of the first case of site b."""
    if model.regime == "untrained" or (site == "b" and case == "b_00" and structure == "tumor"):
        return 0.0
    return 0.8 if site == "a" else 0.6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("run"), dice=dice, cases={"a": 2, "b": 6}, external={"x": 3}
    )


@pytest.fixture(scope="module")
def shared(run):
    return build_report(run)


@pytest.fixture
def report(shared):
    return copy.deepcopy(shared)


def say(report, name):
    return " ".join(FACTS[name](report))


def with_patients(run, splits, total):
    """The report of the run, had it counted the patients of site a."""
    study = read_study(run)
    first = study.sites[0].model_copy(
        update={
            "patients": PatientCounts(splits=splits, total=total),
            "finest_axis_mm": (0.7, 0.9),
            "coarsest_axis_mm": (5.0, 5.0),
        }
    )
    write_study(run, study.model_copy(update={"sites": (first, *study.sites[1:])}))
    return build_report(run)


@pytest.fixture
def own_run(tmp_path):
    return write_run(
        tmp_path,
        dice=dice,
        cases={"a": 2, "b": 6},
        external={"x": 3},
        arms=("manual",),
        regimes=("local",),
    )


def test_patients_that_add_up_are_in_one_split_each(own_run):
    said = say(with_patients(own_run, {"train": 5, "test": 2}, 7), "separation_by_patient")

    assert "a: 7 patients (5 train and 2 test); none is in two splits." in said
    assert "NOT SEPARATE" not in said


def test_a_patient_in_two_splits_is_shouted(own_run):
    said = say(with_patients(own_run, {"train": 5, "test": 2}, 6), "separation_by_patient")

    assert "a: 6 patients (5 train and 2 test); NOT SEPARATE: 1 in two splits." in said


def test_spacings_are_told_for_the_sites_that_recorded_them(own_run):
    found = list(FACTS["voxel_spacing"](with_patients(own_run, {"train": 1}, 1)))

    assert found == [
        "a: voxel spacing 0.7 to 0.9 mm along the finest axis, 5 mm along the coarsest."
    ]


def test_records_without_patients_spacings_readers_or_inputs_are_silent(report):
    for name in (
        "separation_by_patient",
        "separation_by_image_hash",
        "voxel_spacing",
        "readers_of_the_test_labels",
        "repeated_errors_of_proposals",
        "choice_by_validation",
    ):
        assert say(report, name) == ""


def test_readers_of_the_test_labels_are_counted_by_site(own_run):
    study = read_study(own_run)
    named = [
        # The same name at two sites is two people.
        case.model_copy(update={"reader": "first" if number else "second"})
        for number, case in enumerate(study.test_cases)
    ]
    write_study(own_run, study.model_copy(update={"test_cases": tuple(named)}))

    said = say(build_report(own_run), "readers_of_the_test_labels")

    # "second" and "first" at a, "first" at b and at x.
    assert said == "The test labels were drawn by 4 readers."


def test_one_unnamed_reader_leaves_their_number_unknown(own_run):
    study = read_study(own_run)
    first = study.test_cases[0].model_copy(update={"reader": "first"})
    write_study(own_run, study.model_copy(update={"test_cases": (first, *study.test_cases[1:])}))

    assert say(build_report(own_run), "readers_of_the_test_labels") == ""


def test_labels_are_told_with_readers_and_proposals(report):
    said = list(FACTS["labels_and_readers"](report))

    # 2 + 6 cases, one reader a site; every fourth assisted label (0, and 0 and 4) is accepted.
    assert said[0] == "manual: 8 labels by 2 readers, all drawn without a proposal."
    assert said[1].startswith("assisted: 8 labels by 2 readers, 8 of them corrected")
    assert "accepted unchanged in 38 %" in said[1]


def test_missed_structures_are_counted(report):
    said = list(FACTS["missed_structures"](report))

    # 2 + 6 + 3 test cases have a tumor; b_00 is missed.
    assert (
        "tumor missed (Dice 0) in 1 of 11 test cases that have it (federated, manual labels)."
        in (said)
    )
    assert (
        "mass missed (Dice 0) in 0 of 11 test cases that have it (federated, manual labels)."
        in (said)
    )


def test_a_structure_that_no_reference_has_is_not_called_found(report):
    report["cases"]["structures"]["tumor"]["cases"] = []

    assert "tumor" not in say(report, "missed_structures")


def test_the_worst_case_is_told_by_its_site(report):
    # Mean over structures: (0.6 + 0.6 + 0) / 3 = 0.4.
    assert next(FACTS["worst_cases"](report)) == (
        "Worst case 1, at b: Dice manual 0.400, assisted 0.400."
    )


def test_a_test_image_in_training_is_shouted(report):
    report["separation"] |= {"in_both": ["e" * 64], "is_shown": False}

    said = say(report, "separation_by_image_hash")

    assert said.startswith("NOT SEPARATE: 1 test image")
    assert "None of" not in said


def test_what_did_not_take_place_is_told_as_such(tmp_path):
    run = write_run(
        tmp_path, dice=dice, cases={"a": 2, "b": 6}, external={}, arms=("manual",),
        regimes=("local", "pooled"),
    )  # fmt: skip
    report = build_report(run)

    for name in ("federation", "privacy"):
        assert say(report, name) == "No model of the run was trained in a federation."
    assert say(report, "ensemble") == "The study has no ensemble."
    assert say(report, "results_at_external_sites") == "No external site took part."
    assert "not compared" in say(report, "design_of_the_label_arms")


def test_every_privacy_setting_is_told(report):
    report["settings"]["privacy"] = {
        "clip_norm": 2.5,
        "secure_aggregation": True,
        "threshold": None,
    }

    assert list(FACTS["privacy"](report)) == [
        "clip norm: 2.5, secure aggregation: True, threshold: not set.",
        "The server sees nothing but the sum of the sites' updates.",
        "Nothing was noised: there is no limit to what the updates and the model may tell.",
    ]


def test_a_privacy_budget_is_told_as_it_was_spent(report):
    report["settings"]["privacy"] = {
        "clip_norm": None,
        "secure_aggregation": False,
        "threshold": None,
        "differential_privacy": {
            "unit": "patient",
            "epsilon": 8.0,
            "delta": 1e-5,
            "clip_norm": 1.0,
            "noise_multiplier": 1.5,
        },
    }
    trained = [m for m in report["methods"]["models"] if m["regime"] == "federated"]
    for spent, model in zip((5.5, 7.25), trained, strict=True):
        model["epsilon"] = spent

    told = list(FACTS["privacy"](report))

    for epsilon, line in zip(("(5.5, 1e-05)", "(7.25, 1e-05)"), told[2:4], strict=True):
        assert f"unit one training patient of one site: (epsilon, delta) = {epsilon}" in line
    assert "together" in told[4]
    assert "epsilon 12.75, delta 2e-05" in told[4]
    assert told[5] == "Models of other regimes (local and pooled) were trained without noise."


@pytest.mark.parametrize(
    "privacy",
    [{}, {"clip_norm": 2.5}, {"clip_norm": 2.5, "secure_aggregation": True, "threshold": 2}],
    ids=["open", "clipped", "masked"],
)
def test_clipping_and_masks_alone_are_never_called_differential_privacy(run, report, privacy):
    rules = PrivacyRules.model_validate(privacy)
    report["settings"]["privacy"] = rules.model_dump(mode="json")

    said = " ".join(line for fact in FACTS.values() for line in fact(report)).lower()
    study = read_study(run)
    settings = study.settings.model_copy(update={"privacy": rules})
    shown = study.model_copy(update={"settings": settings})
    card = model_card(shown, shown.models[-1], ()).lower()

    for text in (said, card):
        assert "differential" not in text
        assert "epsilon" not in text
        assert "without noise" in text or "nothing was noised" in text


def test_the_model_card_states_what_the_weights_cost_in_privacy(run):
    study = read_study(run)
    rules = {"unit": "patient", "epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0}
    privacy = PrivacyRules.model_validate(
        {"differential_privacy": rules | {"noise_multiplier": 1.5}}
    )
    settings = study.settings.model_copy(update={"privacy": privacy})
    noised = study.models[-1].model_copy(update={"epsilon": 7.25})

    card = model_card(study.model_copy(update={"settings": settings}), noised, ())

    assert "unit one training patient of one site: (epsilon, delta) = (7.25, 1e-05)" in card
    assert "noise multiplier 1.5" in card
    assert "trained without noise" not in card


def test_sites_are_scored_one_by_one(report):
    said = list(FACTS["results_by_site"](report))
    federated = [line for line in said if "federated" in line]

    assert [line.split(":")[0] for line in federated] == ["a, federated", "b, federated"]
    assert "Dice manual labels 0.800" in federated[0]
    # Five cases of 0.6, and one of (0.6 + 0.6 + 0) / 3 = 0.4.
    assert "Dice manual labels 0.567" in federated[1]
    assert federated[1].endswith("6 cases.")


def test_without_a_shared_model_there_are_no_failures_to_tell(tmp_path):
    run = write_run(
        tmp_path, dice=dice, cases={"a": 2, "b": 6}, external={}, regimes=("local",)
    )  # fmt: skip
    report = build_report(run)

    for name in ("missed_structures", "worst_cases", "surface_and_distance"):
        assert say(report, name) == ""
    assert "a, local: Dice" in say(report, "results_by_site")
