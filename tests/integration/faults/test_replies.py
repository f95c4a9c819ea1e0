"""Replies that must not count, from a site of which the server sees nothing but a valid key."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from segfed.cli.server import online_sites
from segfed.protocol import AgentConnection, RoundReply
from segfed.sites import load_site
from tests.agent_samples import make_agent
from tests.deployment_samples import (
    command,
    final_weights,
    joined,
    make_federation,
    manifest_of,
    read,
    rounds_done,
    served,
    signed_study,
    simulated_weights,
    submit,
    until,
)
from tests.socket_samples import serving, short_folder

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

HONEST = ("north", "southern")
HOSTILE = "west"


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Server and two honest sites; the third one's node is started by the test."""
    made = make_federation(tmp_path_factory.mktemp("federation"), sites=(*HONEST, HOSTILE))
    with served(made), joined(made, "north"), joined(made, "southern"):
        yield made


def first(weights):
    """Name of an array with more than one dimension."""
    return next(name for name in sorted(weights) if weights[name].ndim > 1)


def with_first(change):
    """Puts another array in the place of one."""

    def changed(reply):
        weights = load(reply.weights)
        name = first(weights)
        array = change(weights.pop(name))
        if array is not None:
            weights[name] = np.ascontiguousarray(array)
        return replace(reply, weights=save(weights))

    return changed


BAD = {
    "holds NaN": with_first(lambda array: array * np.float32(np.nan)),
    "has shape": with_first(lambda array: array[:1, :1].repeat(2, axis=0)),
    # NumPy would stretch it over the model's array.
    "instead of": with_first(lambda array: array[:1]),
    "has type float16": with_first(lambda array: array.astype(np.float16)),
    "larger than": with_first(lambda _array: np.zeros(10**7, np.float32)),
    "arrays are missing": with_first(lambda _array: None),
    "times the round's median": with_first(lambda array: array + np.float32(1e4)),
    "case count": lambda reply: replace(reply, n_cases=10**9),
}


@dataclass(frozen=True)
class HostileAgent:
    """Trains as it should, and sends in each round something else than that."""

    agent: AgentConnection

    def answer(self, request) -> RoundReply:
        reply = self.agent.answer(request)
        if request.verb != "train":
            return reply
        return list(BAD.values())[request.round - 1](reply)


@contextlib.contextmanager
def hostile_site(federation, study):
    """A node that the server knows, and behind it an agent that lies."""
    site = load_site(federation.site(HOSTILE))
    kit = federation.folder / "kits" / HOSTILE
    shutil.copy(site.folder / "node.key", kit)
    agent = HostileAgent(make_agent(site, manifest_of(study)))
    with (
        short_folder() as folder,
        serving(agent, folder / "a.sock", largest_message_bytes=2**30),
        command(federation, "hostile", "node", kit, "--socket", folder / "a.sock"),
    ):
        yield


def test_what_a_hostile_site_sends_is_named_and_the_model_is_that_of_the_others(
    federation, tmp_path
):
    study = signed_study(federation, name="hostile", rounds=len(BAD))

    with hostile_site(federation, study):
        until(lambda: all((online_sites(federation.kit) or {"": False}).values()))
        done = submit(federation, study)

    assert done.returncode == 0, done.stderr
    records = rounds_done(federation, study)
    assert [list(record.dropped) for record in records] == [[HOSTILE]] * len(BAD)
    for record, reason in zip(records, BAD, strict=True):
        assert reason in record.dropped[HOSTILE]
    expected = simulated_weights(tmp_path / "simulated", study, sites=HONEST)
    assert final_weights(federation, study) == expected


def test_an_exception_that_names_a_patient_stays_at_the_site(federation, tmp_path):
    study = signed_study(federation, name="damaged", rounds=1, seed=5)
    image = federation.site("north") / "images" / "case0.nii.gz"
    whole = image.read_bytes()
    shutil.rmtree(federation.site("north") / "cache", ignore_errors=True)
    image.write_bytes(whole[:100])

    failed = submit(federation, study)
    image.write_bytes(whole)
    resumed = submit(federation, study, "--resume")

    assert failed.returncode == 1
    assert "a case or label at the site cannot be used" in " ".join(failed.stderr.split())
    # The reason in full, with the file, is for the hospital alone.
    assert "case0" in read(federation.site("north") / "logs" / "agent.log")
    assert "case0" not in failed.stdout + failed.stderr + federation.said("server")
    holding = [
        path
        for path in federation.kit.rglob("*")
        if path.is_file() and b"case0" in path.read_bytes()
    ]
    assert holding == []
    assert resumed.returncode == 0, resumed.stderr
    expected = simulated_weights(tmp_path / "simulated", study, sites=HONEST)
    assert final_weights(federation, study) == expected
