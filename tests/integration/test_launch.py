"""A federation in a process of its own: its failures become one paragraph here."""

from __future__ import annotations

import pytest

from segfed.cli.launch import launch_federation
from segfed.engine import make_plan
from segfed.errors import FederationError
from segfed.protocol import FederationJob, Manifest
from segfed.sites import load_task


def test_a_federation_that_cannot_start_says_why_and_where_its_log_is(tmp_path):
    manifest = Manifest(
        study="s",
        task="kidney_tumor",
        plan=make_plan(load_task("kidney_tumor")).model_dump(mode="json"),
        arm="manual",
        train_split="train",
        seed=0,
        rounds=1,
        steps_per_round=1,
    )
    job = FederationJob(
        manifest=manifest,
        sites=(tmp_path / "no-site", tmp_path / "none-either"),
        initial_weights=tmp_path / "absent.safetensors",
        out=tmp_path / "out",
    )

    with pytest.raises(FederationError, match=r"exit code 1 .*no-site.*run the command again"):
        launch_federation(job, on_round=print)

    assert "Traceback" not in (tmp_path / "out" / "federation.log").read_text()
