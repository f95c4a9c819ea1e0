"""Attacks on the models of a finished study."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from segfed.attacks import InversionSettings
from segfed.cli import privacy
from segfed.errors import ConfigError
from segfed.sites import load_site, submit_label
from segfed.study import ATTACKS_FILE, attack_study, read_attacks, run_study
from tests.study_samples import block, make_settings, make_site, pretend_federation

CPU = torch.device("cpu")
FAINT = InversionSettings(repeats=2, iterations=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study of two sites with four training and four test patients, and one with fewer."""
    root = tmp_path_factory.mktemp("leakage")
    for seed, name in enumerate("ab", start=1):
        make_site(root, name, seed=seed, splits=("train",) * 4 + ("validation",) + ("test",) * 4)
    make_site(root, "c", seed=3)
    settings = make_settings(
        root,
        sites=(root / "a", root / "b", root / "c"),
        external_sites=(),
        regimes=("local", "pooled"),
    )
    run_study(settings, out=root / "run", launch_federation=pretend_federation)
    return root


def test_every_model_with_enough_patients_is_attacked_in_three_ways(root):
    seen = []

    record = attack_study(
        root / "run",
        device=CPU,
        n_bootstrap=20,
        inversion=None,
        on_progress=lambda *step: seen.append(step),
    )

    attacked = {(row.regime, row.train_site, row.attack) for row in record.membership}
    assert attacked == {
        (regime, site, attack)
        for regime, site in (("local", "a"), ("local", "b"), ("pooled", "all"))
        for attack in ("loss", "dice", "calibrated loss")
    }
    # Site c has two training patients: no threshold could be chosen and judged.
    assert record.not_attacked == ("local c manual, seed 0",)
    of_all = [row.result for row in record.membership if row.regime == "pooled"]
    assert {(result.n_members, result.n_others) for result in of_all} == {(8, 8)}
    assert seen[-1] == ("membership", 4, 4)
    assert read_attacks(root / "run") == record


def test_patches_are_reconstructed_from_rounds_of_two_models(root):
    record = attack_study(root / "run", device=CPU, n_bootstrap=20, inversion=FAINT)

    models = [row.model for row in record.inversion]
    assert models == ["untrained, seed 0"] * 7 + ["local a manual, seed 0"] * 7
    assert record.inversion[0].result.exposure == "gradient of one patch"


def test_the_command_writes_the_figures_and_prints_a_summary(root):
    command = [str(root / "run"), "--no-reconstruct", "--device", "cpu"]

    shown = CliRunner().invoke(privacy.app, ["attack", *command])
    plain = CliRunner().invoke(privacy.app, ["attack", *command, "--json"])

    assert shown.exit_code == 0
    assert "Not attacked, for too few patients: local c manual, seed 0." in shown.stdout
    assert "Guessing gives 0" in shown.stdout
    assert "8 in, 8 out" in shown.stdout
    written = json.loads((root / "run" / ATTACKS_FILE).read_text())
    assert json.loads(plain.stdout) == written


def test_labels_that_changed_since_are_no_members(root):
    site = load_site(root / "a")
    case = site.split("train")[0].case_id
    submit_label(site, case_id=case, label=block(9), origin="manual", reader="manual-reader")

    with pytest.raises(ConfigError, match="has 3 of the 4 labels"):
        attack_study(root / "run", device=CPU, n_bootstrap=20, inversion=None)


def test_a_run_that_nobody_attacked_has_no_record(tmp_path):
    assert read_attacks(tmp_path) is None
