"""Updates on disk."""

from __future__ import annotations

import numpy as np
import pytest

from federation.spool import BLOCK, Spool

MODEL = {
    "a": np.zeros((3, BLOCK // 2), np.float32),  # one and a half blocks
    "b": np.zeros((), np.float64),
    "c": np.zeros((2, 1), np.float16),
}


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", model=MODEL)


def test_the_pieces_cover_every_array_once(spool):
    pieces = [(piece.name, piece.start, piece.stop) for piece in spool.pieces()]

    assert pieces == [("a", 0, BLOCK), ("a", BLOCK, 3 * BLOCK // 2), ("b", 0, 1), ("c", 0, 2)]


def test_what_was_added_is_read_again_bit_for_bit(spool):
    rng = np.random.default_rng(0)
    added = {
        name: np.asarray(rng.normal(size=like.shape)).astype(like.dtype)
        for name, like in MODEL.items()
    }
    # In another order and memory layout than the model's.
    spool.add("north", {name: np.asfortranarray(added[name]) for name in ("c", "a", "b")})

    for name, array in added.items():
        read = [spool.read("north", piece) for piece in spool.pieces() if piece.name == name]
        assert np.concatenate(read).tobytes() == array.tobytes()
        assert read[0].dtype == array.dtype


def test_what_a_killed_process_left_is_deleted(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "north.update").write_bytes(b"old")

    Spool(tmp_path / "spool", model=MODEL)

    assert list((tmp_path / "spool").iterdir()) == []
