"""What an update shows of a patch, with and without protections."""

from __future__ import annotations

import copy

import pytest
import torch

from segfed.attacks import Exposure, InversionSettings, invert_updates, usual_exposures
from segfed.engine import build_network
from segfed.errors import PrivacyError
from tests.engine_samples import sample_cases, sample_plan

PLAN = sample_plan(patch_voxels=(16, 16, 16), features=[4, 8])
CASES = sample_cases(4)


def attack(*exposures, **settings):
    fields = {"repeats": 2, "iterations": 25, "seed": 0}
    return invert_updates(
        build_network(PLAN, seed=0),
        PLAN,
        CASES,
        exposures=exposures,
        settings=InversionSettings(**(fields | settings)),
    )


def test_a_gradient_shows_its_patch_and_noise_hides_it():
    gradient, noisy = attack(Exposure("gradient"), Exposure("noise", noise_multiplier=1.0))

    # Pebbles are alike, so that a stranger's patch resembles the reconstruction, too.
    assert gradient.correlation > gradient.chance + 0.05
    assert gradient.psnr_db > gradient.chance_psnr_db
    assert gradient.correlation > noisy.correlation + 0.15
    assert abs(noisy.correlation) < 0.1


def test_a_round_of_steps_and_a_sum_of_sites_are_attacked_too():
    plan = usual_exposures(PLAN, n_steps=3, n_sites=4)
    names = [exposure.name for exposure in plan]

    found = attack(plan[3], plan[4], plan[-1], iterations=1)

    assert names[3:] == [
        "the same, sum of 4 sites",
        "no gradient at all",
        "gradient of a batch of 2",
        "update of 3 steps of 2",
    ]
    assert [result.exposure for result in found] == [names[3], names[4], names[-1]]
    assert all(-1 <= result.correlation <= 1 for result in found)
    assert all(r.advantage_low <= r.advantage <= r.advantage_high for r in found)


def test_the_attack_leaves_the_network_as_it_was_and_says_how_far_it_is():
    network = build_network(PLAN, seed=0)
    before, steps = copy.deepcopy(network.state_dict()), []

    invert_updates(
        network,
        PLAN,
        CASES,
        exposures=[Exposure("steps", n_steps=2)],
        settings=InversionSettings(repeats=2, iterations=1),
        on_attack=lambda done, total: steps.append((done, total)),
    )

    assert steps == [(1, 2), (2, 2)]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("cases", "repeats"), [(CASES[:1], 2), (CASES, 1)], ids=["one case", "one repeat"]
)
def test_what_would_give_no_interval_or_no_chance_is_refused(cases, repeats):
    with pytest.raises(PrivacyError, match="expected two cases and two repeats at least"):
        invert_updates(
            build_network(PLAN, seed=0),
            PLAN,
            cases,
            exposures=[Exposure("gradient")],
            settings=InversionSettings(repeats=repeats),
        )
