"""DP-SGD with the patient as its unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segfed.engine import LocalTrainer, build_network, validation_dice
from segfed.engine.private_training import (
    PatientNoise,
    clipping_scale,
    private_steps,
    set_noised_gradients,
)
from tests.engine_samples import sample_cases, sample_plan

CPU = torch.device("cpu")


def make_trainer(cases, *, total_steps=10, **changes):
    plan = sample_plan(**changes)
    network = build_network(plan, seed=0)
    return LocalTrainer(plan, cases, network=network, seed=0, total_steps=total_steps, device=CPU)


def gradients_of(trainer, patients, *, noise, seed=0):
    """The gradient of one step, all weights in a row."""
    source = np.random.default_rng(seed).bytes
    set_noised_gradients(trainer, patients, noise=noise, random_bytes=source)
    return torch.cat([p.grad.flatten() for p in trainer.network.parameters()])


def quiet(**changes):
    """Everybody is drawn, and next to nothing is added."""
    fields = {"clip_norm": 1e-3, "noise_multiplier": 1e-6, "sampling_rate": 1.0}
    return PatientNoise(**(fields | changes))


def test_a_patient_moves_a_step_by_no_more_than_the_norm_however_many_cases_it_has():
    cases = sample_cases(4)
    trainer = make_trainer(cases)

    for patients in ([cases], [cases[:1]]):
        found = gradients_of(trainer, patients, noise=quiet())
        assert float(found.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_taking_a_patient_away_changes_the_sum_by_no_more_than_the_norm():
    patients = [[case] for case in sample_cases(3)]
    trainer = make_trainer([case for own in patients for case in own])

    class Repeating:
        """The same patches for each patient, whoever else there is; no noise to speak of."""

        def __call__(self, n):
            return bytes(n)

    def summed(some):
        set_noised_gradients(trainer, some, noise=quiet(), random_bytes=Repeating())
        flat = torch.cat([p.grad.flatten() for p in trainer.network.parameters()])
        # The mean over three is undone; the repeated noise is the same in both.
        return flat.double() * len(some)

    difference = summed(patients) - summed(patients[:2])
    assert float(difference.norm()) == pytest.approx(1e-3, rel=1e-2)


def test_two_sites_of_one_patient_and_two_have_their_mean_clipped_gradient():
    patients = [[case] for case in sample_cases(2)]
    trainer = make_trainer([case for own in patients for case in own])

    found = gradients_of(trainer, patients, noise=quiet())

    # Two vectors of length C have a mean that is no longer than C.
    assert 0 < float(found.norm()) <= 1e-3 * (1 + 1e-3)


def test_a_step_that_draws_nobody_is_noise_over_the_number_drawn_on_average():
    patients = [[case] for case in sample_cases(4)]
    trainer = make_trainer([case for own in patients for case in own])
    noise = PatientNoise(clip_norm=2.0, noise_multiplier=3.0, sampling_rate=1e-9)

    found = gradients_of(trainer, patients, noise=noise)

    # Standard deviation 3 x 2 over 4e-9 patients.
    assert float(found.double().std()) * 4e-9 == pytest.approx(6.0, rel=0.05)


def test_every_weight_is_noised():
    patients = [[case] for case in sample_cases(2)]
    trainer = make_trainer([case for own in patients for case in own])
    noise = PatientNoise(clip_norm=1.0, noise_multiplier=1.0, sampling_rate=1.0)

    first, second = (gradients_of(trainer, patients, noise=noise, seed=seed) for seed in (1, 2))

    assert bool((first != second).all())


def test_noise_differs_in_every_run_although_the_studys_seed_is_the_same():
    patients = [[case] for case in sample_cases(2)]
    noise = PatientNoise(clip_norm=1.0, noise_multiplier=1.0, sampling_rate=1.0)
    weights = []
    for _ in range(2):
        trainer = make_trainer([case for own in patients for case in own])
        private_steps(trainer, patients, noise=noise, steps=1)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.network.parameters()]))

    assert not torch.equal(*weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_patient_whose_gradient_is_no_number_counts_as_zero(value):
    assert clipping_scale([torch.tensor([1.0, value])], norm=1.0) == 0


def test_gradients_are_shortened_over_all_weights_together_and_never_lengthened():
    # (3, 4) has the length 5.
    assert clipping_scale([torch.tensor([3.0]), torch.tensor([4.0])], norm=1.0) == pytest.approx(
        0.2, rel=1e-5
    )
    assert clipping_scale([torch.tensor([3.0])], norm=10.0) == 1
    assert clipping_scale([torch.zeros(3)], norm=1.0) == 1


def test_steps_keep_their_place_in_the_schedule_and_survive_a_restart():
    patients = [[case] for case in sample_cases(2)]
    cases = [case for own in patients for case in own]
    source = np.random.default_rng(0).bytes
    trainer = make_trainer(cases)
    private_steps(trainer, patients, noise=quiet(), steps=3, random_bytes=source)
    resumed = make_trainer(cases)
    resumed.resume(trainer.progress())
    for one in (trainer, resumed):
        source = np.random.default_rng(1).bytes
        private_steps(one, patients, noise=quiet(), steps=2, random_bytes=source)

    assert trainer.steps_done == resumed.steps_done == 5
    for name, value in trainer.weights().items():
        assert torch.equal(value, resumed.weights()[name])


def test_with_little_noise_it_learns():
    cases = sample_cases(4)
    trainer = make_trainer(cases, total_steps=25)
    before = validation_dice(trainer.network, trainer.plan, cases, device=CPU)["pebble"]
    noise = PatientNoise(clip_norm=1.0, noise_multiplier=0.01, sampling_rate=0.5)

    source = np.random.default_rng(0).bytes
    private_steps(trainer, [[case] for case in cases], noise=noise, steps=25, random_bytes=source)

    after = validation_dice(trainer.network, trainer.plan, cases, device=CPU)["pebble"]
    assert after > max(0.6, before + 0.1)
