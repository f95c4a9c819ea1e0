"""Preprocessed cases: made once, noticed when stale, whole or not there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from segfed.engine import make_plan, prepare
from segfed.engine.cache import _mapped, label_positions
from segfed.errors import TrainingError
from segfed.sites import select_labels, submit_label
from tests.sites_samples import make_label, make_site

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def site(tmp_path):
    site = make_site(tmp_path, splits=("train", "train"))
    for case in site.cases:
        label(site, case.case_id, size=3)
    return site


def label(site, case_id, *, size):
    submit_label(
        site,
        case_id=case_id,
        label=make_label(size=size),
        origin="manual",
        reader="ann",
        submitted_at=NOON,
    )


def prepared(site, folder, **overrides):
    cases = select_labels(site, split="train", arm="manual")
    return prepare(cases, make_plan(site.task, overrides), folder)


def test_a_case_lies_on_ras_axes_at_the_plans_spacing(site, tmp_path):
    # 7 x 6 x 5 voxels; I runs to the back in steps of 1 mm, J to the right in steps of 1.5 mm,
    # K up in steps of 2.5 mm: in RAS 9 x 7 x 12.5 mm.
    case, _ = prepared(site, tmp_path / "cache")

    assert case.image.shape == (1, 9, 7, 12)
    assert case.label.shape == (9, 7, 12)
    assert case.image.dtype == np.float32
    assert set(np.unique(case.label)) == {0, 1, 2}
    assert np.mean(case.image) == pytest.approx(0, abs=1e-4), "z-scored"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into Linux's /proc")
def test_arrays_are_mapped_read_only_and_their_files_closed(site, tmp_path):
    before = open_files()

    case, other = prepared(site, tmp_path / "cache")

    mapped = Path("/proc/self/maps").read_text()
    for path in (tmp_path / "cache").glob("*.npy"):
        assert str(path) in mapped
    with pytest.raises(ValueError, match="read-only"):
        case.image[0, 0, 0, 0] = 1
    # 3 arrays a case, and 1024 files that a process may usually open
    assert open_files() == before, other.case_id


def test_an_array_in_any_memory_order_comes_back(tmp_path):
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    np.save(tmp_path / "array.npy", array)

    assert np.array_equal(_mapped(tmp_path / "array.npy"), array)


def test_a_second_call_computes_nothing(site, tmp_path, monkeypatch):
    first = prepared(site, tmp_path / "cache")
    monkeypatch.setattr("segfed.engine.cache._preprocessed", None)

    again = prepared(site, tmp_path / "cache", learning_rate=0.5)

    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))


def test_an_interrupted_call_goes_on_where_it_stopped(site, tmp_path):
    folder = tmp_path / "cache"
    complete = prepared(site, folder)
    next(folder.glob("*.positions.npy")).unlink()

    again = prepared(site, folder)

    for before, after in zip(complete, again, strict=True):
        assert np.array_equal(before.positions, after.positions)


def test_a_changed_label_or_spacing_is_noticed(site, tmp_path):
    folder = tmp_path / "cache"
    before, _ = prepared(site, folder)
    coarse, _ = prepared(site, folder, spacing_mm=(2.0, 2.0, 2.0))
    label(site, "case0", size=2)

    after, _ = prepared(site, folder)

    assert (after.label > 0).sum() < (before.label > 0).sum()
    assert coarse.label.size < before.label.size


def test_a_full_disk_is_explained(site, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)

    with pytest.raises(TrainingError, match=r"case0.*No space left on device.*Free some space"):
        prepared(site, tmp_path / "cache")


def test_positions_point_at_voxels_of_their_value():
    label = np.zeros((20, 30, 25), dtype=np.uint8)
    label[3:18, 2:28, 5:20] = 1  # 15 x 26 x 15 = 5850 voxels, more than are kept
    label[10, 10, 10] = 2

    positions = label_positions(label)

    assert (label[tuple(positions[:, 1:].T)] == positions[:, 0]).all()
    assert positions[positions[:, 0] == 2].tolist() == [[2, 10, 10, 10]]
    assert 2000 < (positions[:, 0] == 1).sum() <= 4096


def test_an_empty_label_has_no_positions():
    assert label_positions(np.zeros((4, 5, 6), dtype=np.uint8)).shape == (0, 4)
