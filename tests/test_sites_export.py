"""Labels as a data set: what counts, where it came from, and nobody's name."""

from __future__ import annotations

import csv
from datetime import timedelta

import pytest

from segfed.errors import ConfigError, LedgerError
from segfed.files import sha256_file
from segfed.sites import Site, submit_label
from segfed.sites.export import export_labels
from segfed.sites.review import review_label
from tests.sites_samples import NOON, make_label, make_site


@pytest.fixture
def site(tmp_path) -> Site:
    """Approved: case0 by hand (zoe) and assisted (ann). Waiting: case1 (ann)."""
    site = make_site(tmp_path)
    fields = {"label": make_label(), "origin": "manual"}
    submit_label(
        site,
        case_id="case0",
        reader="zoe",
        opened_at=NOON - timedelta(minutes=5),
        submitted_at=NOON,
        active_seconds=90.0,
        **fields,
    )
    submit_label(
        site,
        case_id="case0",
        reader="ann",
        origin="ai_corrected",
        label=make_label(size=4),
        model_sha256="4" * 64,
        changed_fraction=0.25,
    )
    submit_label(site, case_id="case1", reader="ann", **fields)
    for arm in ("manual", "assisted"):
        review_label(site, case_id="case0", arm=arm, decision="approved", reviewer="rita")
    return site


def table(folder) -> list[dict[str, str]]:
    with (folder / "provenance.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_approved_labels_are_written_with_where_they_came_from(site, tmp_path):
    out = tmp_path / "new" / "set"

    rows = export_labels(site, out)

    assert [row.file for row in rows] == [
        "labels/case0_manual.nii.gz",
        "labels/case0_assisted.nii.gz",
    ]
    manual, assisted = table(out)
    for row in (manual, assisted):
        assert sha256_file(out / row["file"]) == row["label_sha256"]
        assert row["image_sha256"] == site.case("case0").image_sha256
        assert row["status"] == "approved"
    assert (manual["active_seconds"], manual["elapsed_seconds"]) == ("90.0", "300.0")
    assert (manual["origin"], manual["arm"], manual["model_sha256"]) == ("manual", "manual", "")
    assert (assisted["model_sha256"], assisted["changed_fraction"]) == ("4" * 64, "0.25")
    readme = (out / "README.md").read_text()
    assert "- 1: skin\n- 2: core" in readme
    assert "2 labels of 1 cases" in readme
    assert (out / "LICENSE").read_text().startswith("SPDX-License-Identifier: CC-BY-4.0\n")
    assert not list(out.parent.glob(".partial-*"))


def test_readers_are_numbered_and_their_names_are_nowhere_unless_asked_for(site, tmp_path):
    export_labels(site, tmp_path / "set")
    export_labels(site, tmp_path / "named", names=True)

    assert [row["reader"] for row in table(tmp_path / "set")] == ["reader-1", "reader-2"]
    for path in (tmp_path / "set").rglob("*.*"):
        assert b"zoe" not in path.read_bytes()
    assert [row["reader"] for row in table(tmp_path / "named")] == ["zoe", "ann"]


def test_labels_that_wait_for_a_review_come_only_when_asked_for(site, tmp_path):
    rows = export_labels(site, tmp_path / "set", include_submitted=True, licence="cc0-1.0")

    assert [(row.case, row.status) for row in rows][-1] == ("case1", "submitted")
    assert "CC0-1.0" in (tmp_path / "set" / "LICENSE").read_text()


def test_a_folder_that_holds_something_is_left_alone(site, tmp_path):
    (tmp_path / "set").mkdir()
    export_labels(site, tmp_path / "set")
    before = sorted((tmp_path / "set").rglob("*"))

    with pytest.raises(ConfigError, match="is there already; expected a new or empty folder"):
        export_labels(site, tmp_path / "set", include_submitted=True)

    assert sorted((tmp_path / "set").rglob("*")) == before


def test_a_damaged_label_leaves_no_half_data_set(site, tmp_path):
    record = site.ledger().current("case0", "assisted")
    site.ledger().label_path(record.label_sha256).write_bytes(b"altered")

    with pytest.raises(LedgerError, match=r"case0.*has the hash"):
        export_labels(site, tmp_path / "out" / "set")

    assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_exported_is_explained(site, tmp_path):
    with pytest.raises(ConfigError, match=r"'free-for-all' is no licence.*CC-BY-4.0"):
        export_labels(site, tmp_path / "set", licence="free-for-all")
    review_label(site, case_id="case0", arm="manual", decision="rejected", reviewer="rita")
    review_label(site, case_id="case0", arm="assisted", decision="rejected", reviewer="rita")
    with pytest.raises(ConfigError, match="no label with the status approved"):
        export_labels(site, tmp_path / "set")
