"""What each site adds to the federated model of a finished study."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import mean

import pytest
from typer.testing import CliRunner

from segfed.cli.study import app
from segfed.errors import CaseError, ConfigError, PrivacyError
from segfed.rules import FederationRules, PrivacyRules
from segfed.sites import load_site, submit_label
from segfed.study.contribution import (
    CONTRIBUTION_FILE,
    case_dice,
    measure_contributions,
    plan_contributions,
    read_contributions,
)
from segfed.study.groups import check_groups
from segfed.study.records import ScoreRow, read_scores, read_study
from segfed.study.runner import run_study
from tests.study_samples import block, make_settings, make_site, pretend_federation


class Launcher:
    """Pretends to federate, and remembers who took part in which study."""

    def __init__(self):
        self.jobs = []

    def __call__(self, job, *, on_round):
        sites = "".join(sorted(folder.name for folder in job.sites))
        self.jobs.append((job.manifest.study, sites, job.manifest.federation.minimum_sites))
        return pretend_federation(job, on_round=on_round)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study of three sites, all of which a federation needs; local models are there, too."""
    root = tmp_path_factory.mktemp("contribution")
    for seed, name in enumerate("abc", start=1):
        make_site(root, name, seed=seed, splits=("train", "test"))
    run_study(settings_of(root), out=root / "run", launch_federation=pretend_federation)
    return root


def settings_of(root, **changes):
    fields = {
        "sites": tuple(root / name for name in "abc"),
        "external_sites": (),
        "regimes": ("local", "federated"),
        "federation": FederationRules(minimum_sites=3),
    }
    return make_settings(root, **(fields | changes))


def plan(root, launcher=pretend_federation, **choices):
    return plan_contributions(root / "run", launch_federation=launcher, **choices)


def test_only_groups_of_several_sites_are_trained_and_never_twice(root):
    launcher = Launcher()

    found = plan(root, launcher)
    assert (len(found.models), found.n_to_train) == (8, 3)
    assert found.seconds_left > 0
    record = measure_contributions(found, n_bootstrap=20)

    # In any order, for several may be trained at once; each in a study of a name of its own.
    assert sorted(launcher.jobs) == [
        (f"small-of-{'+'.join(pair)}", pair, 2) for pair in ("ab", "ac", "bc")
    ]
    assert [row.site for row in record.sites] == ["a", "b", "c"]
    assert record.n_cases == {"a": 1, "b": 1, "c": 1}
    models = read_study(root / "run").models
    assert record.models == tuple(m.sha256 for m in models if m.regime == "federated")
    assert read_contributions(root / "run") == record
    again = plan(root, launcher)
    assert (again.n_to_train, again.seconds_left) == (0, 0)
    assert measure_contributions(again, n_bootstrap=20) == record
    assert len(launcher.jobs) == 3


def test_groups_are_scored_as_the_study_scores_its_models(root):
    record = measure_contributions(plan(root), n_bootstrap=20)

    dice = {"".join(group.sites): group.dice for group in record.groups}
    rows = [row for row in read_scores(root / "run" / "scores.csv") if row.metric == "dice"]
    for sites, regime, train_site in (
        ("", "untrained", "all"),
        ("b", "local", "b"),
        ("abc", "federated", "all"),
    ):
        of_model = [r.value for r in rows if (r.regime, r.train_site) == (regime, train_site)]
        assert dice[sites] == pytest.approx(mean(of_model))
    # The pretended federations leave the network untrained, local trainings do not.
    assert dice["ab"] == dice["abc"] == dice[""] != dice["b"]


def test_drawn_orders_train_fewer_groups(root):
    # However an order goes, every pair is the study without one site.
    found = plan(root, n_orders=2)

    assert found.orders is not None
    assert len(found.models) <= 1 + 2 + 3 + 1
    assert measure_contributions(found, n_bootstrap=20).n_orders == 2


def test_the_command_says_what_it_will_train_and_prints_a_table(root, monkeypatch):
    monkeypatch.setattr("segfed.cli.launch.launch_federation", pretend_federation)
    run = str(root / "run")

    planned = CliRunner().invoke(app, ["contribution", run, "--dry-run"])
    shown = CliRunner().invoke(app, ["contribution", run, "--seed", "0"])

    assert (planned.exit_code, planned.stdout) == (0, "")
    assert "8 models of groups of sites" in planned.stderr
    assert shown.exit_code == 0
    assert "What each site adds (manual labels, seed 0)" in shown.stdout
    assert "do not cover what differs from training to training" in shown.stdout
    written = json.loads((root / "run" / CONTRIBUTION_FILE).read_text())
    assert written["n_orders"] is None


def test_a_seed_that_is_named_twice_counts_once(root):
    assert plan(root, seeds=[0, 0]).seeds == (0,)


def test_what_the_study_does_not_have_is_refused(root):
    for choice, message in (({"seeds": [7]}, "seed 7"), ({"arm": "assisted"}, "arm assisted")):
        with pytest.raises(ConfigError, match=f"Found {message}, expected one of the study"):
            plan(root, **choice)


def refused(root, **changes):
    """Ask for the contributions to a study with other settings; returns the run folder."""
    record = read_study(root / "run")
    folder = root / "other"
    folder.mkdir(exist_ok=True)
    settings = record.settings.model_copy(update=changes)
    text = record.model_copy(update={"settings": settings}).model_dump_json()
    (folder / "study.json").write_text(text)
    plan_contributions(folder, launch_federation=pretend_federation)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"regimes": ("local",)}, ConfigError, "expected 'federated'"),
        (
            {"privacy": PrivacyRules(secure_aggregation=True, threshold=2, clip_norm=1.0)},
            PrivacyError,
            "secure_aggregation, which hides",
        ),
        (
            {
                "privacy": PrivacyRules.model_validate(
                    {
                        "differential_privacy": {
                            "unit": "patient",
                            "epsilon": 8,
                            "delta": 0.001,
                            "clip_norm": 1.0,
                            "noise_multiplier": 1.0,
                        }
                    }
                )
            },
            PrivacyError,
            "spend the budgets again",
        ),
        ({}, ConfigError, "has no model 'federated manual, seed 0'"),
    ],
)
def test_studies_of_which_no_group_may_be_trained_are_refused(root, changes, error, message):
    with pytest.raises(error, match=message):
        refused(root, **changes)


def test_groups_too_small_for_krum_are_refused(root):
    run = plan(root).run
    rules = FederationRules(aggregation="krum", minimum_sites=5)
    settings = run.settings.model_copy(update={"federation": rules})

    with pytest.raises(ConfigError, match="aggregates by 'krum'"):
        check_groups(replace(run, settings=settings), ())


def test_sites_that_are_elsewhere_are_named(root):
    with pytest.raises(ConfigError, match="gone are not on this machine"):
        refused(root, sites=(root / "a", root / "b", root / "gone"))


def test_a_federation_of_hospitals_has_no_cases_to_train_on(tmp_path):
    (tmp_path / "state.json").touch()

    with pytest.raises(ConfigError, match="federation of hospitals, whose cases are not here"):
        plan_contributions(tmp_path, launch_federation=pretend_federation)


def test_many_sites_need_drawn_orders(root):
    sites = []
    for number in range(7):
        sites.append(root / f"many{number}")
        sites[-1].mkdir(exist_ok=True)

    with pytest.raises(ConfigError, match="form 128 groups; expected at most 6"):
        refused(root, sites=tuple(sites))


def test_a_policy_that_admits_the_study_alone_is_respected(root):
    path = root / "a" / "site.toml"
    before = path.read_text()
    path.write_text(before.replace('studies = ["*"]', 'studies = ["small"]'))
    try:
        with pytest.raises(ConfigError, match="a admits small; expected 'small-of-\\*'"):
            plan(root)
    finally:
        path.write_text(before)


def test_labels_that_changed_since_ask_for_a_new_run(root):
    site = load_site(root / "c")
    case = site.split("train")[0].case_id
    submit_label(site, case_id=case, label=block(9), origin="manual", reader="manual-reader")

    with pytest.raises(ConfigError, match="Run the study again"):
        plan(root)


def score(structure, metric, value, *, site="a", case="1"):
    return ScoreRow("local", "manual", 0, "a", site, False, case, structure, metric, value)


def test_a_case_counts_by_the_structures_of_its_reference():
    rows = [
        score("kidney", "reference_mm3", 10.0),
        score("kidney", "dice", 0.8),
        score("tumor", "reference_mm3", 0.0),
        score("tumor", "dice", float("nan")),
        score("tumor", "reference_mm3", 0.0, case="2"),
        score("tumor", "dice", 0.0, case="2"),
    ]

    assert case_dice(rows) == {"a": {"1": 0.8}}
    with pytest.raises(CaseError, match="No test case of b"):
        case_dice([*rows, score("tumor", "reference_mm3", 0.0, site="b")])


def test_nobody_has_measured_a_new_run(tmp_path):
    assert read_contributions(tmp_path) is None
