"""Copies of a scan are found across sites and splits, from files that hold no image and no name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.errors import CaseError, ConfigError
from segfed.sites import Policy, SiteSettings, add_case, create_site, load_site
from segfed.sites.keyed_scans import (
    keyed_scans,
    make_key,
    read_key,
    read_keyed_scans,
    require_sharing,
    write_keyed_scans,
)
from segfed.sites.overlap import require_separate, same_scans
from segfed.volumes import Grid, Volume

SHAPE = (40, 44, 36)
KEY = bytes(range(32))


def scan(seed, *, noise=0.0):
    """Structure of a patient's own; noise stands for another export."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.5) * 900
    field += noise * np.random.default_rng(1000).normal(size=SHAPE)
    grid = Grid(SHAPE, np.diag([1.0, 1.1, 1.2, 1.0]))
    return Volume((200 + field)[None].astype(np.float32), grid)


def make_site(root, name, cases):
    """A CT site with (split, image) cases."""
    policy = Policy(scan_marks=True)
    site = create_site(root / name, SiteSettings(name=name, task="kidney_tumor", policy=policy))
    for number, (split, image) in enumerate(cases):
        add_case(
            site.folder,
            task=site.task,
            case_id=f"{name}-secret-{number}",
            patient_id=f"{name}-patient-{number}",
            split=split,
            channels={"ct": image},
        )
    return load_site(site.folder)


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """North's second case was exported to south again; its third is south's test file itself."""
    root = tmp_path_factory.mktemp("sites")
    return (
        make_site(root, "north", [("train", scan(1)), ("train", scan(2)), ("train", scan(3))]),
        make_site(root, "south", [("train", scan(2, noise=3.0)), ("test", scan(3))]),
    )


def pairs_of(sites, key=KEY):
    return same_scans([keyed_scans(site, key) for site in sites])


def test_a_copy_and_an_equal_file_are_found_the_one_that_is_tested_on_first(sites):
    file, copy = pairs_of(sites)

    assert (file.kind, file.cases) == ("same file", (("north", 3), ("south", 2)))
    assert (file.splits, file.is_across) == (("train", "test"), True)
    assert (copy.kind, copy.cases) == ("near", (("north", 2), ("south", 1)))
    assert not copy.is_across
    assert 0.2 < copy.shared < 1


def test_a_copy_within_one_site_is_found(tmp_path):
    site = make_site(tmp_path, "west", [("train", scan(1)), ("test", scan(1, noise=3.0))])

    (pair,) = pairs_of([site])

    assert pair.is_across


def test_a_file_names_no_case_no_patient_and_no_hash(sites, tmp_path):
    path = tmp_path / "marks.json"
    write_keyed_scans(keyed_scans(sites[0], KEY), path)
    text = path.read_text()

    assert read_keyed_scans(path) == keyed_scans(sites[0], KEY)
    for case in sites[0].cases:
        for hidden in (case.case_id, case.patient_id, case.image_sha256):
            assert hidden not in text


def test_without_the_key_nothing_can_be_compared(sites):
    one, other = keyed_scans(sites[0], KEY), keyed_scans(sites[1], KEY[::-1])

    assert not {m for s in one.scans for m in s.marks} & {m for s in other.scans for m in s.marks}
    with pytest.raises(ConfigError, match="are of different keys"):
        same_scans([one, other])


def test_two_files_of_one_site_are_refused(sites):
    with pytest.raises(ConfigError, match="Several files are of site north"):
        pairs_of([sites[0], sites[0]])


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path):
    key = make_key(tmp_path / "key")

    assert read_key(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="is there already"):
        make_key(tmp_path / "key")


@pytest.mark.parametrize("text", ["", "abcd", "no key at all"])
def test_what_is_no_key_is_refused(tmp_path, text):
    (tmp_path / "key").write_text(text)

    with pytest.raises(ConfigError, match="holds no key"):
        read_key(tmp_path / "key")


def test_a_missing_key_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="--new-key"):
        read_key(tmp_path / "key")


def test_a_policy_that_says_nothing_lets_no_marks_leave(tmp_path):
    site = create_site(tmp_path / "east", SiteSettings(name="east", task="kidney_tumor"))

    with pytest.raises(ConfigError, match="scan_marks = true"):
        require_sharing(site)


def test_on_the_command_line_two_sites_find_what_they_share(sites, tmp_path):
    key, files = tmp_path / "key", [tmp_path / "north.json", tmp_path / "south.json"]
    for site, path, more in zip(sites, files, (["--new-key"], []), strict=True):
        command = ["site", "marks", str(site.folder), "--key", str(key), "--out", str(path), *more]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output

    listed = CliRunner().invoke(app, ["site", "overlap", *map(str, files)])
    found = CliRunner().invoke(app, ["site", "overlap", "--json", *map(str, files)])

    assert listed.exit_code == found.exit_code == 1  # a scan is trained on and tested on
    assert "north no. 3" in listed.output
    assert "2 pairs among 5 scans of 2 site(s)" in listed.output
    assert [pair["kind"] for pair in json.loads(found.output)] == ["same file", "near"]


def test_a_study_with_one_scan_in_testing_and_training_is_refused_by_line(tmp_path):
    a = make_site(tmp_path, "a", [("train", scan(1)), ("train", scan(2))])
    b = make_site(tmp_path, "b", [("train", scan(3)), ("test", scan(2))])
    c = make_site(tmp_path, "c", [("train", scan(1))])
    keyed = {site.name: keyed_scans(site, KEY) for site in (a, b, c)}

    with pytest.raises(CaseError, match=r"a no\. 2 \(train\) is .* b no\. 2 \(test\)"):
        require_separate([keyed["a"], keyed["b"]])
    (twice,) = require_separate([keyed["a"], keyed["c"]])
    assert "a no. 1 (train)" in twice
    assert "c no. 1 (train)" in twice
    assert require_separate([keyed["b"], keyed["c"]]) == []
