"""Strings like a patient's, wherever somebody could put one, and a search in all that left."""

from __future__ import annotations

import logging
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch

from federation.grid import InProcessGrid
from federation.simulation import run_federation
from segfed.agent import AUDIT_FILE, Agent
from segfed.files import write_bytes
from segfed.sites import (
    Policy,
    SiteSettings,
    add_case,
    create_site,
    fingerprint_site,
    load_site,
    submit_label,
)
from tests.agent_samples import bean_manifest, start_weights
from tests.sites_samples import SHAPE, make_grid, make_label, write_task

NAME = "Zsofia-Quux"
"""Part of every string that is planted here; nothing else holds it."""

SPLITS = ("train", "train", "train", "validation", "validation")


def image_file(path, seed):
    """An image whose header names a patient in every field, and behind the voxels too."""
    values = np.random.default_rng(seed).normal(100, 20, size=SHAPE).astype(np.float32)
    image = nib.Nifti1Image(values, make_grid().affine)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = NAME
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def planted_site(folder, name):
    """A site in whose paths, images, cases, patients, readers and contact a patient is named."""
    root = folder / f"ward-{NAME}"
    root.mkdir(exist_ok=True)
    settings = SiteSettings(
        name=name, task=str(write_task(folder)), contact=NAME, policy=Policy(minimum_rounds=1)
    )
    site = create_site(root / name, settings)
    for index, split in enumerate(SPLITS):
        case_id = f"{NAME}-{index}"
        add_case(
            site.folder,
            task=site.task,
            case_id=case_id,
            patient_id=f"{NAME} {index}",
            split=split,
            channels={"t1": image_file(folder / NAME / f"{NAME}{name}{index}.nii.gz", index)},
        )
        site = load_site(site.folder)
        submit_label(site, case_id=case_id, label=make_label(), origin="manual", reader=NAME)
    return site


@pytest.mark.parametrize(
    "privacy",
    [{}, {"secure_aggregation": True, "threshold": 2, "clip_norm": 5.0}],
    ids=["open", "masked"],
)
def test_nothing_that_left_a_site_names_a_patient(tmp_path, monkeypatch, caplog, privacy):
    sites = [planted_site(tmp_path, name) for name in ("north", "south", "west")]
    manifest = bean_manifest(tmp_path, rounds=2, steps_per_round=1, privacy=privacy)
    write_bytes(tmp_path / "start.safetensors", start_weights(manifest))
    # One site breaks: its image is gone, and the error at the site names path and case.
    (sites[2].folder / "images" / f"{NAME}-0.nii.gz").unlink()
    sent = []
    pull = InProcessGrid.pull_messages

    def recorded(self, message_ids):
        replies = list(pull(self, message_ids))
        sent.extend(replies)
        return replies

    monkeypatch.setattr(InProcessGrid, "pull_messages", recorded)
    caplog.set_level(logging.DEBUG)
    records = []
    run_federation(
        manifest,
        agents={site.name: Agent(site, manifest, device=torch.device("cpu")) for site in sites},
        initial_weights=tmp_path / "start.safetensors",
        out=tmp_path / "server",
        on_round=records.append,
    )

    assert len(sent) >= 2 * (3 + 2)
    assert any(reply.has_error() for reply in sent)
    assert "west" in records[0].dropped
    # The site's own log explains the failure: the search below could have found the name.
    assert NAME in caplog.text
    left = {
        f"message {number}": pickle.dumps(
            reply.error if reply.has_error() else [dict(r) for r in reply.content.values()]
        )
        for number, reply in enumerate(sent)
    }
    left |= {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / "server").rglob("*")
        if path.is_file()
    }
    left |= {
        "audit log": b"".join((site.folder / AUDIT_FILE).read_bytes() for site in sites),
        "fingerprint": repr(fingerprint_site(sites[0]).as_json()).encode(),
        "server's log": "".join(
            record.getMessage() for record in caplog.records if record.name.startswith("federation")
        ).encode(),
    }
    assert [name for name, content in left.items() if NAME.encode() in content] == []


def test_images_lie_in_the_site_without_what_their_headers_said(tmp_path):
    site = planted_site(tmp_path, "north")

    for case in site.cases:
        header = nib.load(case.channels["t1"])
        assert NAME.encode() not in header.to_bytes()
