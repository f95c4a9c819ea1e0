"""What studies have spent at a site: it survives everything, and a retry costs nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from segfed.dp_rules import DifferentialPrivacy
from segfed.errors import BudgetError, ConfigError
from segfed.privacy.accounting import spent_epsilon
from segfed.privacy.budget import SPENT_FILE, Charge, Limit, charge, read_charges, release

RULES = DifferentialPrivacy(
    unit="patient", epsilon=3.0, delta=1e-5, clip_norm=1.0, noise_multiplier=2.0
)


def training(**changes: Any) -> Charge:
    """One full-batch step; its noise of 2 costs an epsilon of about 2.2 at delta 1e-5."""
    fields = {
        "study": "s",
        "manifest_sha256": "a" * 64,
        "round": 1,
        "base_sha256": "b" * 64,
        "unit": "patient",
        "noise_multiplier": 2.0,
        "sampling_rate": 1.0,
        "steps": 1,
    }
    return Charge.model_validate(fields | changes)


def test_a_training_that_never_left_is_charged_once(tmp_path):
    first = charge(tmp_path, training(), rules=RULES, total=None)
    again = charge(tmp_path, training(), rules=RULES, total=None)

    assert first == again > 0
    assert len(read_charges(tmp_path)) == 1


def test_a_training_that_left_is_charged_again(tmp_path):
    charge(tmp_path, training(), rules=RULES, total=None)
    release(tmp_path, training())

    rules = RULES.model_copy(update={"epsilon": 9.0})
    twice = charge(tmp_path, training(), rules=rules, total=None)

    assert len(read_charges(tmp_path)) == 2
    assert twice == spent_epsilon([training(steps=2).mechanism], delta=1e-5)


@pytest.mark.parametrize("changes", [{"base_sha256": "c" * 64}, {"round": 2}], ids=str)
def test_another_model_or_round_costs_also_where_the_first_never_left(tmp_path, changes):
    charge(tmp_path, training(), rules=RULES, total=None)

    with pytest.raises(BudgetError, match=r"expected at most 3"):
        charge(tmp_path, training(**changes), rules=RULES, total=None)

    assert len(read_charges(tmp_path)) == 1


def test_each_study_has_a_budget_of_its_own_and_the_hospital_one_for_all(tmp_path):
    other = training(manifest_sha256="d" * 64, study="t")
    charge(tmp_path, training(), rules=RULES, total=None)

    with pytest.raises(BudgetError, match="all studies together"):
        charge(tmp_path, other, rules=RULES, total=Limit(epsilon=3.0, delta=1e-5))
    charge(tmp_path, other, rules=RULES, total=None)


def test_what_was_never_charged_does_not_leave(tmp_path):
    with pytest.raises(BudgetError, match="no charge"):
        release(tmp_path, training())


def test_a_damaged_file_stops_training_instead_of_starting_at_zero(tmp_path):
    charge(tmp_path, training(), rules=RULES, total=None)
    (tmp_path / SPENT_FILE).write_text("{")

    with pytest.raises(ConfigError, match="privacy budget"):
        charge(tmp_path, training(), rules=RULES, total=None)


CHARGE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tests.test_privacy_budget import RULES, training
from segfed.privacy.budget import charge
charge(Path(sys.argv[1]), training(), rules=RULES, total=None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_after_the_charge_does_not_forget_it(tmp_path):
    command = [sys.executable, "-c", CHARGE_AND_DIE, str(tmp_path)]
    died = subprocess.run(command, env=os.environ | {"PYTHONPATH": "."}, check=False)

    assert died.returncode == -signal.SIGKILL
    assert read_charges(tmp_path) == (training(),)
