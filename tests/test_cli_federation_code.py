"""The hash that a study declares for its code."""

from __future__ import annotations

import shutil

from segfed.cli import federation_code
from segfed.cli.federation_code import code_folder, code_sha256


def test_the_hash_follows_every_source_file_and_nothing_else(tmp_path, monkeypatch):
    installed = code_sha256()
    copy = shutil.copytree(code_folder(), tmp_path / "copy")
    monkeypatch.setattr(federation_code, "code_folder", lambda: copy)
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert code_sha256() == installed

    (copy / "client_app.py").write_text("# changed")
    changed = code_sha256()
    (copy / "client_app.py").rename(copy / "other.py")

    assert len({installed, changed, code_sha256()}) == 3
