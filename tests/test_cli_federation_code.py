"""The hash that a study declares for its code."""

from __future__ import annotations

import io
import shutil
import tomllib
import zipfile

import pytest
from flwr.cli.build import build_fab_from_disk

from segfed.cli import federation_code
from segfed.cli.federation_code import code_folder, code_sha256, write_app
from segfed.errors import FederationError
from tests.federation_samples import manifest


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


def test_what_is_sent_to_the_sites_is_the_federation_and_the_study_s_hash(tmp_path):
    study = manifest(bundle_sha256=code_sha256())
    (tmp_path / "work").mkdir()

    app = write_app(tmp_path / "work", study)

    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))) as bundle:
        names = {name for name in bundle.namelist() if not name.startswith(".info")}
        config = tomllib.loads(bundle.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    sources = {f"federation/{path.name}" for path in code_folder().glob("*.py")}
    assert names == sources | {"pyproject.toml"}
    assert config["config"] == {"manifest-sha256": study.sha256}


def test_other_code_than_the_sites_approved_is_not_sent(tmp_path):
    with pytest.raises(FederationError, match="declares the code aaaaaaaaaaaa, but"):
        write_app(tmp_path, manifest(bundle_sha256="a" * 64))
