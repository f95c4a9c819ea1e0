"""The hospital's decision, and the study owner's signature, at the command line."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from segfed.agent.approval import approved_studies
from segfed.agent.signing import read_signed, sign
from segfed.cli import console, main
from segfed.cli.agent_process import socket_path
from segfed.cli.federation_code import code_sha256
from segfed.cli.main import app
from segfed.errors import CaseError, ConfigError, FederationError
from segfed.rules import PrivacyRules
from segfed.sites import AgentSettings
from segfed.sites.keyed_scans import KeyedScan, KeyedScans, write_keyed_scans
from tests.agent_samples import bean_manifest, labelled_site, make_owner, trust


def run(*arguments, answer=None):
    """Exit code and stdout, its white space made one."""
    result = CliRunner().invoke(app, ["federate", *map(str, arguments)], input=answer)
    return result.exit_code, " ".join(result.stdout.split())


@pytest.fixture
def asked(tmp_path):
    """A site and the signed manifest that its trusted owner sent."""
    site, key = labelled_site(tmp_path), make_owner(tmp_path)
    trust(site.folder, key)
    path = tmp_path / "signed.json"
    path.write_text(sign(bean_manifest(tmp_path, bundle_sha256="c" * 64), key).model_dump_json())
    return site, path


def test_signing_declares_the_installed_code(tmp_path):
    manifest, key = bean_manifest(tmp_path), make_owner(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    out = tmp_path / "signed.json"

    code, text = run("sign", tmp_path / "manifest.json", "--key", key, "--out", out)

    signed = read_signed(out)
    assert code == 0
    assert signed.manifest == manifest.model_copy(update={"bundle_sha256": code_sha256()})
    assert signed == sign(signed.manifest, key)
    assert signed.manifest.sha256 in text


def test_a_study_that_tests_on_another_site_s_scan_is_not_signed(tmp_path):
    (tmp_path / "manifest.json").write_text(bean_manifest(tmp_path).model_dump_json())
    files = []
    for name, split in (("north", "train"), ("south", "test")):
        scan = KeyedScan(number=1, split=split, image="ab", marks=())
        files.append(tmp_path / f"{name}.json")
        keyed = KeyedScans(site=name, task="kidney_tumor", key_id="12", scans=(scan,))
        write_keyed_scans(keyed, files[-1])
    arguments = ["sign", tmp_path / "manifest.json", "--key", make_owner(tmp_path)]
    arguments += ["--out", tmp_path / "signed.json"]

    with pytest.raises(CaseError, match=r"north no\. 1 \(train\) is the same file as south no\. 1"):
        CliRunner().invoke(
            app,
            ["federate", *map(str, arguments), "--marks", str(files[0]), "--marks", str(files[1])],
            catch_exceptions=False,
        )
    assert not (tmp_path / "signed.json").exists()


def test_a_hospital_sees_what_a_study_wants_before_it_decides(asked):
    site, path = asked

    code, text = run("approve", site.folder, path, "--by", "Dr. Ä", answer="y\n")

    assert code == 0
    for expected in (
        "study beans",
        "signed by owner",
        "task bean",
        "labels manual ones of the split 'train'",
        "here: 2 manual, 0 assisted for 2 cases",
        "rounds 3 of 2 optimizer steps each",
        "numbers of training and validation cases, steps, seconds, loss",
        "weights: as trained, neither clipped nor noised nor masked",
        "seed 3",
        "features [4, 8]",
        "Approved by Dr. Ä",
    ):
        assert expected in text
    assert "c" * 64 in text.replace(" ", "")  # a narrow terminal breaks it
    (study,) = approved_studies(site.folder)
    assert study.study == "beans"


@pytest.mark.parametrize(
    ("privacy", "expected"),
    [
        ({"clip_norm": 2.5}, "their change clipped to the norm 2.5, neither noised nor masked"),
        (
            {"clip_norm": 2.5, "secure_aggregation": True, "threshold": 3},
            "clipped to the norm 2.5 and masked: the server sees the sum over at least 3 sites",
        ),
        (
            {
                "differential_privacy": {
                    "unit": "patient",
                    "epsilon": 8.0,
                    "delta": 1e-2,
                    "clip_norm": 1.0,
                    "noise_multiplier": 5.0,
                }
            },
            # By hand for 6 full-batch steps: rho = 6 / (2 x 25) = 0.12, and about
            # rho + 2 sqrt(rho ln(100)) = 1.6; Opacus' conversion is a little tighter.
            "unit one training patient of one site: (epsilon, delta) = (1.",
        ),
    ],
)
def test_a_hospital_sees_in_what_form_its_weights_leave(asked, tmp_path, privacy, expected):
    site, path = asked
    manifest = bean_manifest(tmp_path, privacy=PrivacyRules(**privacy))
    path.write_text(sign(manifest, tmp_path / "owner.key").model_dump_json())

    _, text = run("approve", site.folder, path, answer="n\n")

    assert expected in text
    assert "as trained" not in text


def test_every_field_of_a_manifest_is_shown(asked):
    site, path = asked
    manifest = json.loads(path.read_text())["manifest"]
    shown_by_value = {"study", "task", "arm", "train_split", "rounds", "steps_per_round"}

    _, text = run("approve", site.folder, path, "--yes")

    for name in manifest.keys() - shown_by_value - {"bundle_sha256"}:
        assert name.replace("_", " ") in text


def test_a_hospital_that_says_no_has_not_approved(asked):
    site, path = asked

    code, _ = run("approve", site.folder, path, answer="n\n")

    assert code == 1
    assert approved_studies(site.folder) == ()
    assert not (site.folder / "studies").exists()


def test_a_hospital_can_take_its_approval_back(asked):
    site, path = asked
    run("approve", site.folder, path, "--yes")

    code, text = run("approve", site.folder, path, "--refuse", "--yes", "--by", "ann")

    assert (code, "Refused by ann" in text) == (0, True)
    assert approved_studies(site.folder) == ()


def test_an_altered_manifest_is_refused_in_one_paragraph(asked, monkeypatch):
    site, path = asked
    path.write_text(path.read_text().replace('"rounds":3', '"rounds":300'))
    arguments = ["federate", "approve", str(site.folder), str(path), "--yes"]
    monkeypatch.setattr(sys, "argv", ["segfed", *arguments])

    with console.err.capture() as captured, pytest.raises(SystemExit) as stop:
        main()

    assert stop.value.code == 1
    assert "not as a trusted owner signed it" in " ".join(captured.get().split())
    assert not (site.folder / "studies").exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/segfed", "XDG_RUNTIME_DIR": "/x"}, "/run/segfed/north.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/5"}, "/run/user/5/segfed/north.sock"),
    ],
)
def test_the_socket_lies_in_the_runtime_folder(tmp_path, environment, expected):
    site = labelled_site(tmp_path, splits=())

    assert str(socket_path(site, environment=environment)) == expected
    assert len(str(socket_path(site, environment={}))) < 80


def test_the_site_s_settings_name_another_socket(tmp_path):
    site = labelled_site(tmp_path, splits=())
    settings = site.settings.model_copy(update={"agent": AgentSettings(socket="/run/a.sock")})
    named = type(site)(site.folder, settings, site.task, site.cases)

    assert str(socket_path(named, environment={"XDG_RUNTIME_DIR": "/x"})) == "/run/a.sock"


def test_a_study_that_nobody_follows_cannot_be_logged(tmp_path):
    code, _ = run("submit", tmp_path, tmp_path / "signed.json", "--detach", "--mlflow", "local")

    assert code == 2


def test_a_simulation_of_one_site_is_refused(tmp_path):
    arguments = ["federate", "simulate", "study.json", "north", "--out", str(tmp_path / "run")]

    done = CliRunner().invoke(app, arguments)

    assert isinstance(done.exception, FederationError)
    assert "expected two or more" in str(done.exception)


def test_a_folder_that_is_no_site_gets_neither_keys_nor_owners(tmp_path):
    typo = tmp_path / "nroth"
    for arguments in (["keys", typo], ["trust", typo, tmp_path / "owner.pub"]):
        result = CliRunner().invoke(app, ["federate", *map(str, arguments)])

        assert isinstance(result.exception, ConfigError)
        assert not typo.exists()
