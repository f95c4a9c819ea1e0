"""Layers that a site keeps of its own."""

from __future__ import annotations

import pytest
import torch

from segfed.agent.personal import read_personal, write_personal
from segfed.engine import from_bytes, to_bytes
from tests.agent_samples import bean_manifest, job, labelled_site, make_agent, start_weights


def layers(value):
    return {"norm.weight": torch.full((2,), float(value))}


def keep(folder, number, value):
    write_personal(folder, "study", round_number=number, layers=layers(value))


def found(folder, number):
    state = read_personal(folder, "study", round_number=number)
    return float(state["norm.weight"][0]) if state else None


def test_a_round_has_its_own_layers_or_those_of_the_last_one_before(tmp_path):
    keep(tmp_path, 2, 20)
    keep(tmp_path, 5, 50)

    assert [found(tmp_path, number) for number in (0, 1, 2, 4, 5, 9)] == [
        None,
        None,
        20,
        20,
        50,
        50,
    ]
    assert read_personal(tmp_path, "another study", round_number=5) == {}


def test_a_run_that_begins_anew_forgets_the_rounds_of_the_one_before(tmp_path):
    for number in (1, 2, 3):
        keep(tmp_path, number, number)

    keep(tmp_path, 1, 10)

    assert found(tmp_path, 3) == 10


def personal_study(folder):
    return bean_manifest(folder, federation={"personal": ["norm"]})


def changed(content, value):
    """A model whose weights, norm layers among them, are all one number."""
    return to_bytes({name: torch.full_like(t, value) for name, t in from_bytes(content).items()})


def is_norm(name):
    # The second part of a level's convolution, norm, activation; see UNet.
    return name.split(".")[0] in {"encoder", "decoder"} and name.split(".")[2] in {"1", "4"}


@pytest.fixture
def site(tmp_path):
    return labelled_site(tmp_path)


def test_a_site_starts_its_own_layers_where_it_left_them(tmp_path, site):
    study = personal_study(tmp_path)
    agent = make_agent(site, study)
    first = from_bytes(agent.answer(job(study)).weights)
    agent.answer(job(study, "validate"))

    # No rate can carry a scale of about 1 back from 9 in two steps.
    global_model = changed(start_weights(study), 9.0)
    second = from_bytes(agent.answer(job(study, round=2, weights=global_model)).weights)

    norms = [name for name in first if is_norm(name)]
    assert norms
    assert max(float((second[name] - first[name]).abs().max()) for name in norms) < 1
    assert all(float(second[name].mean()) > 8 for name in first if not is_norm(name))


def test_a_new_process_goes_on_with_the_same_layers_even_without_its_cache(tmp_path, site):
    study = personal_study(tmp_path)
    first = make_agent(site, study).answer(job(study))
    request = job(study, "validate", weights=changed(first.weights, 0.5))
    before = make_agent(site, study).answer(request)

    (site.folder / "cache").rename(tmp_path / "hidden")
    after = make_agent(site, study).answer(request)

    assert {**after.metrics, "seconds": 0} == {**before.metrics, "seconds": 0}
    assert read_personal(site.folder, study.sha256, round_number=1)


def test_what_leaves_is_the_whole_network(tmp_path, site):
    study = personal_study(tmp_path)

    sent = from_bytes(make_agent(site, study).answer(job(study)).weights)

    assert sent.keys() == from_bytes(start_weights(study)).keys()
    own = read_personal(site.folder, study.sha256, round_number=1)
    assert all(torch.equal(sent[name], value) for name, value in own.items())


def test_a_study_without_personal_layers_keeps_none(tmp_path, site):
    study = bean_manifest(tmp_path)

    make_agent(site, study).answer(job(study))

    assert not (site.folder / "personal").exists()
