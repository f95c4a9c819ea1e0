"""The command ``python -m federation.simulation``; its real process is an integration test."""

from __future__ import annotations

import json
import os

import pytest

from federation.simulation import main
from segfed.protocol import FederationJob, RoundRecord
from tests.agent_samples import bean_manifest, labelled_site, start_weights


@pytest.fixture
def job(tmp_path):
    """Two sites of two training cases and a study of three rounds."""
    manifest = bean_manifest(tmp_path)
    (tmp_path / "start.safetensors").write_bytes(start_weights(manifest))
    sites = [labelled_site(tmp_path, name=name) for name in ("north", "southern")]
    return FederationJob(
        manifest=manifest,
        sites=tuple(site.folder for site in sites),
        initial_weights=tmp_path / "start.safetensors",
        out=tmp_path / "run",
        device="cpu",
    )


def call(tmp_path, job):
    """The exit code for a job."""
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    return main([str(path)])


def test_a_job_prints_one_line_of_json_for_each_round(tmp_path, job, capfd):
    assert call(tmp_path, job) == 0

    lines = capfd.readouterr().out.splitlines()
    records = [RoundRecord.model_validate_json(line) for line in lines]
    assert [record.round for record in records] == [1, 2, 3]
    assert set(records[0].sites) == {"north", "southern"}
    assert json.loads((tmp_path / "run" / "state.json").read_text())["finished"]


@pytest.mark.parametrize(("compression", "share"), [("int8", 1 / 4), ("int4", 1 / 8)])
def test_compressed_updates_take_fewer_bytes_of_the_real_messages(
    tmp_path, job, capfd, compression, share
):
    rules = job.manifest.federation.model_copy(update={"compression": compression})
    manifest = job.manifest.model_copy(update={"federation": rules, "rounds": 2})

    assert call(tmp_path, job.model_copy(update={"manifest": manifest})) == 0

    for line in capfd.readouterr().out.splitlines():
        record = RoundRecord.model_validate_json(line)
        for site in record.sites.values():
            # In the first round the model goes down to be trained, too, and not only to be scored.
            ratio = site["bytes_up"] / (site["bytes_down"] / (2 if record.round == 1 else 1))
            assert ratio == pytest.approx(share, abs=0.03)  # each array is described


def test_what_a_library_prints_goes_to_the_log_and_not_among_the_records(
    tmp_path, job, capfd, monkeypatch
):
    def simulate(_job, *, on_round):
        os.write(1, b"a notice from C\n")
        on_round(RoundRecord(round=1, loss=None, validation_dice=None, sites={}, seconds=1.0))

    monkeypatch.setattr("federation.simulation.simulate", simulate)

    assert call(tmp_path, job) == 0

    out, err = capfd.readouterr()
    assert RoundRecord.model_validate_json(out).round == 1
    assert err == "a notice from C\n"


def test_a_site_listed_twice_is_refused(tmp_path, job, capsys):
    twice = job.model_copy(update={"sites": (job.sites[0], job.sites[0])})

    assert call(tmp_path, twice) == 1
    assert "different name for each" in capsys.readouterr().err


def test_an_unusable_site_ends_the_run_with_a_paragraph(tmp_path, job, capsys):
    for site in job.sites:
        (site / "images" / "case0.nii.gz").unlink()

    assert call(tmp_path, job) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "Round 1 brought 0 usable updates from 2 sites" in last
    assert "Traceback" not in last


@pytest.mark.parametrize("arguments", [[], ["a.json", "b.json"]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    assert main(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_missing_job_is_explained(tmp_path, capsys):
    assert main([str(tmp_path / "job.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_job_that_breaks_rules_names_them(tmp_path, job, capsys):
    assert call(tmp_path, job.model_copy(update={"sites": job.sites[:1]})) == 1
    assert "sites" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_written_is_explained(tmp_path, job, capsys):
    (tmp_path / "run").write_text("a file where the folder should be")

    assert call(tmp_path, job) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be read or written" in last
    assert str(tmp_path / "run") in last
