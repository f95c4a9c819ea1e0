"""The tiny synthetic cases that come with the project."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from segfed.sites import load_site
from segfed.sites.check import check_site
from segfed.volumes import read_image

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"
SITES = [SAMPLE_DATA / task / "hospital-a" for task in ("kidney_tumor", "brain_tumor")]


@pytest.mark.parametrize("folder", SITES, ids=lambda folder: folder.parent.name)
def test_a_sample_site_is_ready_and_marked_as_synthetic(folder):
    site = load_site(folder)

    assert check_site(site) == ()
    assert site.settings.data == "synthetic"


def test_all_samples_together_stay_under_two_megabytes():
    files = [path for path in SAMPLE_DATA.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_the_recipe_makes_the_samples(tmp_path):
    spec = importlib.util.spec_from_file_location("recipe", SAMPLE_DATA / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    for made, folder in zip(recipe.make(tmp_path), SITES, strict=True):
        for case, kept in zip(made.cases, load_site(folder).cases, strict=True):
            for channel, path in case.channels.items():
                expected = read_image(kept.channels[channel]).data
                # Another machine's arithmetic may round a voxel differently, and no more
                differing = np.abs(read_image(path).data - expected) > 1
                assert differing.mean() < 1e-3
