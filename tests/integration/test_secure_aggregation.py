"""Secure aggregation between real processes over TLS, with a site that drops out half way."""

from __future__ import annotations

import shutil
import threading

import numpy as np
from safetensors.numpy import load

from federation.simulation import run_federation
from segfed.privacy import euclidean_norm
from segfed.sites import load_site
from tests.agent_samples import bean_manifest, labelled_site, make_agent, start_weights
from tests.deployment_samples import (
    make_federation,
    manifest_of,
    rounds_done,
    run_folder,
    running,
    signed_study,
    submit,
    until,
)

STAYING, LEAVING = ("north", "southern"), "western"
PRIVACY = {"secure_aggregation": True, "threshold": 2, "clip_norm": 100.0}


def openly_averaged(folder, manifest):
    """The same round of the sites that stay, by plain averaging."""
    folder.mkdir()
    (folder / "start.safetensors").write_bytes(start_weights(manifest))
    sites = {name: load_site(labelled_site(folder, name=name).folder) for name in STAYING}
    run_federation(
        manifest,
        agents={name: make_agent(site, manifest) for name, site in sites.items()},
        initial_weights=folder / "start.safetensors",
        out=folder / "run",
        on_round=lambda _: None,
    )
    return load((folder / "run" / "round_001.safetensors").read_bytes())


def test_the_sum_survives_a_site_that_drops_out_after_it_shared_its_keys(tmp_path):
    federation = make_federation(tmp_path, sites=(*STAYING, LEAVING))
    rules = {"round_deadline_seconds": 90.0}
    study = signed_study(federation, name="masked", rounds=1, privacy=PRIVACY, federation=rules)
    cache = federation.site(LEAVING) / "cache"
    outcome = []
    with running(federation, sites=(*STAYING, LEAVING)):
        submission = threading.Thread(target=lambda: outcome.append(submit(federation, study)))
        submission.start()
        sessions = cache.parent / "sessions"
        until(
            lambda: any('"share_reply":{' in path.read_text() for path in sessions.glob("*.json"))
        )
        shutil.rmtree(cache / "jobs")  # without its update it cannot answer the next stage
        submission.join()

    assert outcome[0].returncode == 0, outcome[0].stderr
    (record,) = rounds_done(federation, study)
    assert record.dropped[LEAVING].startswith("mask: the site refuses")
    found = load((run_folder(federation, study).run / "round_001.safetensors").read_bytes())
    manifest = bean_manifest(tmp_path, rounds=1, seed=manifest_of(study).seed)
    expected = openly_averaged(tmp_path / "openly", manifest)
    start = load(start_weights(manifest))
    change = euclidean_norm({name: expected[name] - start[name] for name in start})
    error = euclidean_norm(
        {name: found[name].astype(np.float64) - expected[name] for name in start}
    )
    assert error < 1e-4 * change
