"""Synthetic sites: complete, different from each other, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from segfed.errors import ConfigError
from segfed.files import sha256_file
from segfed.phantom import CaseCounts, generate_sites, load_reader, truth_path
from segfed.sites import load_site, select_labels
from segfed.sites.check import check_site
from segfed.volumes import read_label

COUNTS = CaseCounts(warmup=1, train=2, validation=1, test=2)


def generate(folder, *, task="kidney_tumor", seed=0, n_sites=2, **more):
    return generate_sites(
        folder, task=task, n_sites=n_sites, counts=COUNTS, spacing_mm=12.0, seed=seed, **more
    )


@pytest.fixture(scope="module")
def kidney_sites(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("kidneys"))


def test_sites_are_complete_and_marked_as_synthetic(kidney_sites):
    assert [site.name for site in kidney_sites] == ["hospital-a", "hospital-b", "external-a"]
    assert [site.settings.external for site in kidney_sites] == [False, False, True]
    assert {site.settings.data for site in kidney_sites} == {"synthetic"}
    assert all(check_site(site) == () for site in kidney_sites)
    # Half as many more and half as many of two: three and one, but never under two
    trained = [Counter(case.split for case in site.cases)["train"] for site in kidney_sites]
    assert trained == [3, 2, 2]


def test_brain_sites_have_four_channels(tmp_path):
    site, _ = generate(tmp_path, task="brain_tumor", n_sites=1)

    assert check_site(site) == ()
    assert list(site.cases[0].channels) == ["t1n", "t1c", "t2w", "t2f"]


def test_all_cases_are_labelled_and_test_cases_by_another_reader(kidney_sites):
    for site in kidney_sites:
        readers = {
            split: {
                labelled.record.reader
                for labelled in select_labels(site, split=split, arm="manual")
            }
            for split in ("warmup", "train", "validation", "test")
        }
        assert readers.pop("test") == {"test-reader"}
        assert list(readers.values()) == [{"manual-reader"}] * 3


def test_labels_are_drawn_and_not_copied_from_the_truth(kidney_sites):
    site = kidney_sites[0]
    agreements = []
    for labelled in select_labels(site, split="train", arm="manual"):
        truth = read_label(truth_path(site.folder, labelled.case.case_id)).data > 0
        drawn = read_label(labelled.label_path).data > 0
        agreements.append(2 * (truth & drawn).sum() / (truth.sum() + drawn.sum()))
        assert labelled.record.active_seconds > 30

    # Errors of some 2 mm on organs that are 50 mm wide
    assert 0.8 < np.mean(agreements) < 1


def test_readers_differ_between_sites(kidney_sites):
    habits = [load_reader(site.folder) for site in kidney_sites]

    assert len({reader.bias_mm for reader in habits}) == 3
    assert len({reader.contour_sd_mm for reader in habits}) == 3


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    def hashes(folder, seed):
        generate(folder, seed=seed, n_sites=1, n_external=0)
        return {
            path.relative_to(folder): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith((".", "ledger"))
        }

    first = hashes(tmp_path / "first", 1)

    assert first == hashes(tmp_path / "again", 1)
    images = [path for path in first if path.parts[1] == "images"]
    other = hashes(tmp_path / "other", 2)
    assert images
    assert all(first[path] != other[path] for path in images)


def test_a_ledger_says_the_same_for_the_same_seed(tmp_path):
    def records(folder):
        site, *_ = generate(folder, n_sites=1, n_external=0)
        return [record.hash for record in site.ledger().records()]

    assert records(tmp_path / "first") == records(tmp_path / "again")


def test_a_second_call_keeps_what_is_there(tmp_path):
    reported = []
    first = generate(tmp_path, n_sites=1, n_external=0)
    stamp = (first[0].folder / "site.toml").stat().st_mtime_ns

    again = generate(
        tmp_path, n_sites=1, n_external=0, on_case=lambda *counts: reported.append(counts)
    )

    assert (again[0].folder / "site.toml").stat().st_mtime_ns == stamp
    assert [case.image_sha256 for case in again[0].cases] == [
        case.image_sha256 for case in first[0].cases
    ]
    assert reported == [(6, 6)]


def test_an_interrupted_run_leaves_no_half_site_and_can_be_repeated(tmp_path):
    def stop(done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, n_sites=1, n_external=0, on_case=stop)
    assert not (tmp_path / "hospital-a").exists()

    generate(tmp_path, n_sites=1, n_external=0)

    assert len(load_site(tmp_path / "hospital-a").cases) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["hospital-a"]


def test_another_recipe_in_the_same_folder_is_refused(tmp_path):
    generate(tmp_path, n_sites=1, n_external=0)

    with pytest.raises(ConfigError, match="another recipe; different: seed"):
        generate(tmp_path, n_sites=1, n_external=0, seed=1)


def test_a_task_without_a_phantom_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no phantom for task 'hippocampus'"):
        generate(tmp_path, task="hippocampus")
