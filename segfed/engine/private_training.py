"""Training steps that tell little of any one patient: DP-SGD with the patient as its unit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segfed.engine.batches import draw_patches, training_batch
from segfed.engine.cache import PreparedCase
from segfed.engine.device import enough_memory, mixed_precision
from segfed.engine.loss import loss_at_scales
from segfed.engine.steering import Steering
from segfed.engine.training import LocalTrainer
from segfed.privacy.noise import RandomBytes, drawn, normal

_ADVICE = "Lower patch_voxels, batch_size or features in the plan, or use a GPU with more memory."

# Scaling down in float32 must not leave a gradient longer than the norm.
_ROUNDING = 1 - 1e-6


@dataclass(frozen=True)
class PatientNoise:
    """How far one patient may move a step, and how well that is hidden."""

    clip_norm: float
    """Longest gradient of one patient, over all weights."""

    noise_multiplier: float
    """Standard deviation of the noise on the sum of gradients, in units of ``clip_norm``."""

    sampling_rate: float
    """Chance of each patient to be drawn in a step."""


def private_steps(
    trainer: LocalTrainer,
    patients: Sequence[Sequence[PreparedCase]],
    *,
    noise: PatientNoise,
    steps: int,
    proximal_mu: float = 0.0,
    random_bytes: RandomBytes = os.urandom,
) -> None:
    """Take some of a run's steps by DP-SGD (Abadi et al., CCS 2016); no loss is kept.

    Nothing but the noised sums depends on the patients: learning rate and number of steps are the
    study's, and what FedProx and the optimizer add follows from weights that were noised before.

    Args:
        trainer: Its network is trained, by its optimizer and at its place in the schedule.
        patients: The cases of each patient.
        noise: Bound and noise.
        steps: How many.
        proximal_mu: As for ``LocalTrainer.run``.
        random_bytes: Draws patients, patches and noise; only a secret source hides anything.

    Raises:
        OutOfMemoryError: If the device cannot hold the patches of one patient.
    """
    trainer.network.train()
    steering = Steering(trainer.network, mu=proximal_mu, correction=None)
    for _ in range(steps):
        with enough_memory(trainer.device, otherwise=_ADVICE):
            set_noised_gradients(trainer, patients, noise=noise, random_bytes=random_bytes)
        steering.before_step()
        trainer.follow_gradients()


def set_noised_gradients(
    trainer: LocalTrainer,
    patients: Sequence[Sequence[PreparedCase]],
    *,
    noise: PatientNoise,
    random_bytes: RandomBytes = os.urandom,
) -> None:
    """Give each weight of a network the gradient of one step.

    That is the sum of the clipped gradients of the patients that were drawn, with noise, over the
    number that is drawn on average: whatever was drawn, and noise alone where nobody was.
    """
    parameters = list(trainer.network.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for index in drawn(len(patients), rate=noise.sampling_rate, random_bytes=random_bytes):
        # A seed of its own: what one patient's patches show must not depend on another's.
        rng = np.random.default_rng(int.from_bytes(random_bytes(16), "little"))
        gradients = _patient_gradients(trainer, patients[index], rng=rng)
        scale = clipping_scale(gradients, norm=noise.clip_norm)
        if scale:
            torch._foreach_add_(total, gradients, alpha=scale)
    n_expected = noise.sampling_rate * len(patients)
    std = noise.noise_multiplier * noise.clip_norm
    for parameter, summed in zip(parameters, total, strict=True):
        drawn_noise = torch.from_numpy(normal(parameter.numel(), random_bytes)) * std
        noised = summed.double() + drawn_noise.view(summed.shape).to(summed.device)
        parameter.grad = (noised / n_expected).to(parameter.dtype)


def clipping_scale(gradients: Sequence[torch.Tensor], *, norm: float) -> float:
    """What gradients are multiplied by to be no longer than a norm, all together.

    0 where they are not finite: to fail, or to pass NaN on, would tell of the patient.
    """
    squares = [tensor.double().square().sum() for tensor in gradients]
    length = float(torch.stack(squares).sum().sqrt())
    if not np.isfinite(length):
        return 0.0
    return min(1.0, norm / length * _ROUNDING) if length else 1.0


def _patient_gradients(
    trainer: LocalTrainer, cases: Sequence[PreparedCase], *, rng: np.random.Generator
) -> list[torch.Tensor]:
    """The gradients of one patient's loss, over a batch of patches of this patient alone."""
    patches = draw_patches(cases, trainer.plan, rng=rng, device=trainer.device)
    images, labels = training_batch(patches, trainer.plan, trainer.network, device=trainer.device)
    with mixed_precision(trainer.device):
        scales = trainer.network.at_scales(images)
    loss = loss_at_scales(scales, labels, structures=trainer.plan.structures.values())
    parameters = list(trainer.network.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]
