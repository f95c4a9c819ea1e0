"""Differential privacy of whole sites and of patients, from the agents to the mean."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load

from federation.simulation import run_federation
from segfed.privacy import euclidean_norm
from tests.agent_samples import bean_manifest, labelled_site, make_agent, start_weights

NAMES = ("north", "south", "western")


def mean_update(folder, manifest, sites):
    """The change of the model in one round, and the round's record."""
    folder.mkdir()
    (folder / "start.safetensors").write_bytes(start_weights(manifest))
    records = []
    run_federation(
        manifest,
        agents={site.name: make_agent(site, manifest) for site in sites},
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=records.append,
    )
    start = load(start_weights(manifest))
    end = load((folder / "run" / "round_001.safetensors").read_bytes())
    return {name: end[name].astype(np.float64) - start[name] for name in start}, records[0]


def site_rules(noise_multiplier):
    """Three sites, of which a sum may lack one."""
    return {
        "clip_norm": 0.1,
        "secure_aggregation": True,
        "threshold": 2,
        "differential_privacy": {
            "unit": "site",
            "epsilon": 100.0,
            "delta": 1e-2,
            "noise_multiplier": noise_multiplier,
        },
    }


def test_the_mean_of_masked_noised_updates_has_the_noise_that_was_accounted(tmp_path):
    sites = [labelled_site(tmp_path, name=name) for name in NAMES]
    study = {"rounds": 1, "federation": {"weighting": "sites"}}
    masked = bean_manifest(tmp_path, privacy=site_rules(50.0), **study)

    noised, record = mean_update(tmp_path / "noised", masked, sites)

    # Each of three adds 50 x 0.1 / sqrt(2) to each number; their mean has that over sqrt(3).
    flat = np.concatenate([array.ravel() for array in noised.values()])
    np.testing.assert_allclose(flat.std(), 50 * 0.1 / np.sqrt(2) / np.sqrt(3), rtol=0.1)
    assert record.dropped == {}
    for site in record.sites.values():
        assert site["n_cases"] == 1
        assert site["loss"] is None
        assert site["seconds"] is None
        assert site["epsilon"] > 0
    assert record.validation_dice is None


def test_with_hardly_any_noise_it_is_the_plain_mean_of_clipped_updates(tmp_path):
    sites = [labelled_site(tmp_path, name=name) for name in NAMES]
    study = {"rounds": 1, "federation": {"weighting": "sites"}}
    openly = bean_manifest(tmp_path, privacy={"clip_norm": 0.1}, **study)
    masked = bean_manifest(tmp_path, privacy=site_rules(0.4), **study)

    expected, _ = mean_update(tmp_path / "open", openly, sites)
    found, _ = mean_update(tmp_path / "masked", masked, sites)

    # The rest is noise alone: 0.4 x 0.1 / sqrt(2) / sqrt(3) in each of n numbers.
    rest = euclidean_norm({name: found[name] - expected[name] for name in expected})
    n = sum(array.size for array in expected.values())
    np.testing.assert_allclose(rest, 0.4 * 0.1 / np.sqrt(6) * np.sqrt(n), rtol=0.1)


def test_patients_noise_goes_with_masks(tmp_path):
    sites = [labelled_site(tmp_path, name=name) for name in NAMES]
    privacy = {
        "clip_norm": 100.0,
        "secure_aggregation": True,
        "threshold": 2,
        "differential_privacy": {
            "unit": "patient",
            "epsilon": 50.0,
            "delta": 1e-2,
            "clip_norm": 1.0,
            "noise_multiplier": 2.0,
        },
    }
    manifest = bean_manifest(tmp_path, rounds=1, privacy=privacy)

    update, record = mean_update(tmp_path / "both", manifest, sites)

    assert 0 < euclidean_norm(update) <= 100
    assert record.dropped == {}
    assert {site["n_cases"] for site in record.sites.values()} == {2}
