"""What a site's compressed update owes to its next one."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from segfed.agent.compressing import compressed
from segfed.privacy import decompress
from segfed.protocol import RoundReply
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent

BASE = {"w": np.zeros((1, 3), np.float32), "z": np.zeros((), np.float32)}


def send(changes, residue=None, method="int4"):
    """What arrives of the changes of `w`, and the residue."""
    trained = {"w": np.array([changes], np.float32), "z": np.zeros((), np.float32)}
    reply = RoundReply(save(trained), 4, {"loss": 0.5})
    reply, residue = compressed(reply, save(BASE), method=method, residue=residue)
    assert (reply.n_cases, reply.metrics) == (4, {"loss": 0.5})
    arrived = decompress(load(reply.weights), like=BASE, method=method)
    return arrived["w"][0].tolist(), residue


def test_what_rounding_took_is_added_to_the_next_update():
    # The scale is 7 / 7 = 1: 0.4 goes to 0 and is owed; 0.4 + 0.4 goes to 1, which owes -0.2.
    first, residue = send([7, 0.4, 0])
    second, residue = send([7, 0.4, 0], residue)

    assert (first, second) == ([7, 0, 0], [7, 1, 0])
    assert load(residue)["w"][0] == pytest.approx([0, -0.2, 0], abs=1e-6)


@pytest.mark.parametrize("method", ["fp16", "int8", "int4"])
def test_over_many_rounds_nothing_is_lost(method):
    # After 50 rounds what arrived is off by one residue: half of the largest step, 1 / 7 / 2.
    residue, total = None, np.zeros(3)
    for _ in range(50):
        arrived, residue = send([1, 0.03, -0.011], residue, method)
        total += arrived

    assert total == pytest.approx([50, 1.5, -0.55], abs=0.08)


def compressing_site(folder):
    manifest = bean_manifest(folder, federation={"compression": "int8"})
    return labelled_site(folder), manifest


def test_a_retry_sends_the_same_bytes_and_owes_nothing_twice(tmp_path):
    site, manifest = compressing_site(tmp_path)
    agent = make_agent(site, manifest)

    first = agent.answer(job(manifest))
    (residue,) = site.folder.glob("cache/jobs/*/train_001.residue")
    owed = residue.read_bytes()

    assert set(load(first.weights)) == {"codes", "scales"}
    for again in (agent, make_agent(site, manifest)):
        assert again.answer(job(manifest)) == first
        assert residue.read_bytes() == owed


def test_a_new_process_carries_the_residue_as_the_old_one_would_have(tmp_path):
    site, manifest = compressing_site(tmp_path)
    unbroken = make_agent(site, manifest)
    unbroken.answer(job(manifest))
    saved = {path: path.read_bytes() for path in site.folder.glob("cache/jobs/*/*")}
    second = job(manifest, round=2)
    expected = unbroken.answer(second).weights

    # As after a kill before the second round's reply was stored.
    for path in site.folder.glob("cache/jobs/*/*"):
        path.unlink()
    for path, content in saved.items():
        path.write_bytes(content)

    assert make_agent(site, manifest).answer(second).weights == expected


def test_the_residue_changes_what_the_second_round_sends(tmp_path):
    site, manifest = compressing_site(tmp_path)
    agent = make_agent(site, manifest)
    agent.answer(job(manifest))
    (path,) = site.folder.glob("cache/jobs/*/train_001.residue")
    progress = path.with_suffix(".progress").read_bytes()
    record = path.with_name("train.json").read_bytes()
    expected = agent.answer(job(manifest, round=2)).weights

    path.with_name("train.json").write_bytes(record)
    path.with_suffix(".progress").write_bytes(progress)

    assert make_agent(site, manifest).answer(job(manifest, round=2)).weights != expected


def test_validation_is_not_compressed(tmp_path):
    site, manifest = compressing_site(tmp_path)

    assert make_agent(site, manifest).answer(job(manifest, "validate")).weights == b""
