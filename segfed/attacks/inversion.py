"""What an update shows of the patches that it was computed from.

Geiping et al. 2020, https://arxiv.org/abs/2003.14053: find the image whose gradient points the
same way as the update, and that is smooth. The attacker here is a strong one: it knows the network,
the labels of the patches and which of them is which, and that nothing was augmented. A real server
knows less, and sees less than this finds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segfed.engine import Plan, PreparedCase, UNet
from segfed.engine.loss import loss_at_scales
from segfed.engine.optimizer import make_optimizer
from segfed.engine.sampling import draw_batch
from segfed.errors import PrivacyError
from segfed.evaluation.statistics import t_half

Direction = tuple[torch.Tensor, ...]
"""An update or gradient by parameter; its length means nothing here."""

_SMALLEST_SIDE_VOXELS = 24
_RATE = 0.1
_START = 0.1
_RATE_DROPS = (3 / 8, 5 / 8, 7 / 8)
_N_OTHERS = 16


@dataclass(frozen=True)
class Exposure:
    """What of a site's training reaches the attacker."""

    name: str
    n_patches: int = 1
    """In each batch."""

    n_steps: int = 0
    """Optimizer steps behind the update, each on other patches; 0 for a plain gradient."""

    n_sites: int = 1
    """Sites whose updates are summed before anybody sees them."""

    noise_multiplier: float = 0.0
    """Standard deviation of the noise on each weight, in units of the clipped update's norm."""

    is_blind: bool = False
    """Nothing arrives but noise: what labels and smoothness alone give."""


def usual_exposures(plan: Plan, *, n_steps: int, n_sites: int) -> tuple[Exposure, ...]:
    """One patch's gradient, with and without protections, and what a round of a study sends."""
    batch = plan.batch_size
    return (
        Exposure("gradient of one patch"),
        Exposure("the same, noise 0.001", noise_multiplier=1e-3),
        Exposure("the same, noise 0.01", noise_multiplier=1e-2),
        Exposure(f"the same, sum of {n_sites} sites", n_sites=n_sites),
        Exposure("no gradient at all", is_blind=True),
        Exposure(f"gradient of a batch of {batch}", n_patches=batch),
        Exposure(f"update of {n_steps} steps of {batch}", n_patches=batch, n_steps=n_steps),
    )


@dataclass(frozen=True)
class InversionSettings:
    """How hard the attack tries; enough for small patches on a CPU."""

    repeats: int = 5
    """Attacks on different patches, behind each interval."""

    iterations: int = 200
    total_variation: float = 0.1
    """Weight of the smoothness."""

    seed: int = 0


@dataclass(frozen=True)
class Inversion:
    """How much a reconstruction looks like the true patch; means over attacks on other patches."""

    exposure: str
    correlation: float
    """Over the voxels, between reconstruction and true patch; 1 is the patch itself."""

    chance: float
    """The same with patches of the data that were not behind the update."""

    advantage: float
    """``correlation`` minus ``chance``, with a 95 % t interval over the attacks."""

    advantage_low: float
    advantage_high: float
    psnr_db: float
    """Of the reconstruction, once its intensities are fitted to the patch by a line."""

    chance_psnr_db: float
    repeats: int


def invert_updates(
    network: UNet,
    plan: Plan,
    cases: Sequence[PreparedCase],
    *,
    exposures: Sequence[Exposure],
    settings: InversionSettings,
    on_attack: Callable[[int, int], None] | None = None,
) -> tuple[Inversion, ...]:
    """Attack updates of a network that was given to a site.

    Args:
        network: The model that the round starts from; not changed.
        plan: Its plan. A plan whose network takes clicks is refused.
        cases: A site's training cases, two or more.
        exposures: What to attack.
        settings: How hard to try.
        on_attack: Called after each attack with the number done and the number in all.

    Raises:
        PrivacyError: If the plan takes clicks, or there are too few cases or repeats.
    """
    if plan.click_label is not None or len(cases) < 2 or settings.repeats < 2:
        raise PrivacyError(
            f"Found {len(cases)} cases, {settings.repeats} repeats and click_label "
            f"{plan.click_label!r}; expected two cases and two repeats at least, and a network "
            "without clicks, whose maps the attack does not know. Choose another model."
        )
    victim = copy.deepcopy(network).cpu().eval()
    done, found = 0, []
    for exposure in exposures:
        rows = []
        for number in range(settings.repeats):
            rng = np.random.default_rng((settings.seed, number))
            rows.append(_attack(victim, plan, cases, exposure, settings=settings, rng=rng))
            done += 1
            if on_attack:
                on_attack(done, len(exposures) * settings.repeats)
        found.append(_summary(exposure, rows))
    return tuple(found)


@dataclass(frozen=True)
class _Likeness:
    """Of one reconstruction: with the true patches, and on average with others."""

    correlation: float
    chance: float
    psnr_db: float
    chance_psnr_db: float


def _attack(
    network: UNet,
    plan: Plan,
    cases: Sequence[PreparedCase],
    exposure: Exposure,
    *,
    settings: InversionSettings,
    rng: np.random.Generator,
) -> _Likeness:
    """One update of one site, attacked."""
    images, labels = _patches(plan, cases, exposure.n_patches, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    updates = [_update(network, plan, cases, (images, labels), exposure, rng)]
    updates += [
        _update(network, plan, cases, _patches(plan, cases, exposure.n_patches, rng), exposure, rng)
        for _ in range(exposure.n_sites - 1)
    ]
    target = _protected(updates, exposure, generator)
    # Faint, because noise that the few steps do not remove would hide what they find.
    start = _START * torch.randn(images.shape, generator=generator)
    guess = _matching(network, plan, target, labels, start=start, settings=settings)
    others, _ = _patches(plan, cases, _N_OTHERS, rng)
    truths = list(zip(guess, images, strict=True))
    strangers = [(one, patch) for one in guess for patch in others]
    return _Likeness(
        correlation=float(np.mean([_correlation(one, patch) for one, patch in truths])),
        chance=float(np.mean([_correlation(one, patch) for one, patch in strangers])),
        psnr_db=float(np.mean([_psnr_db(one, patch) for one, patch in truths])),
        chance_psnr_db=float(np.mean([_psnr_db(one, patch) for one, patch in strangers])),
    )


def _patches(
    plan: Plan, cases: Sequence[PreparedCase], n_patches: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Small patches around labelled voxels: images (B, C, I, J, K) and labels (B, I, J, K)."""
    i, j, k = (
        min(side, step * math.ceil(_SMALLEST_SIDE_VOXELS / step))
        for side, step in zip(plan.patch_voxels, plan.coarsest_voxel, strict=True)
    )
    # Of a batch the first half is drawn around labelled voxels.
    images, labels = draw_batch(cases, patch_voxels=(i, j, k), batch_size=2 * n_patches, rng=rng)
    return images[:n_patches], labels[:n_patches]


def _update(
    network: UNet,
    plan: Plan,
    cases: Sequence[PreparedCase],
    batch: tuple[torch.Tensor, torch.Tensor],
    exposure: Exposure,
    rng: np.random.Generator,
) -> Direction:
    """What the site's training changes, the wrong way round so that it is like a gradient."""
    images, labels = batch
    if not exposure.n_steps:
        return _gradient(network, plan, images, labels)
    trained = copy.deepcopy(network)
    optimizer = make_optimizer(trained, learning_rate=plan.learning_rate)
    for step in range(exposure.n_steps):
        if step:
            images, labels = _patches(plan, cases, exposure.n_patches, rng)
        for parameter, value in zip(
            trained.parameters(), _gradient(trained, plan, images, labels), strict=True
        ):
            parameter.grad = value
        optimizer.step()
    return tuple(
        (before - after).detach()
        for before, after in zip(network.parameters(), trained.parameters(), strict=True)
    )


def _gradient(
    network: UNet, plan: Plan, images: torch.Tensor, labels: torch.Tensor, *, keep: bool = False
) -> Direction:
    """The gradient of the training loss by all weights; with ``keep`` it can be followed on."""
    loss = loss_at_scales(network.at_scales(images), labels, structures=plan.structures.values())
    return torch.autograd.grad(loss, tuple(network.parameters()), create_graph=keep)


def _protected(
    updates: Sequence[Direction], exposure: Exposure, generator: torch.Generator
) -> Direction:
    """What arrives: each update brought to norm 1, summed and noised."""
    shares = [[tensor / _norm(update) for tensor in update] for update in updates]
    total = [torch.stack(tensors).sum(dim=0) for tensors in zip(*shares, strict=True)]
    noise = [torch.randn(tensor.shape, generator=generator) for tensor in total]
    if exposure.is_blind:
        return tuple(noise)
    return tuple(
        tensor + exposure.noise_multiplier * extra
        for tensor, extra in zip(total, noise, strict=True)
    )


def _matching(
    network: UNet,
    plan: Plan,
    target: Direction,
    labels: torch.Tensor,
    *,
    start: torch.Tensor,
    settings: InversionSettings,
) -> torch.Tensor:
    """The images whose gradient points most nearly where the target does."""
    guess = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([guess], lr=_RATE)
    drops = [round(share * settings.iterations) for share in _RATE_DROPS]
    rates = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=drops)
    for _ in range(settings.iterations):
        found = _gradient(network, plan, guess, labels, keep=True)
        apart = 1 - _inner(found, target) / (_norm(found) * _norm(target))
        objective = apart + settings.total_variation * _total_variation(guess)
        # The sign alone: a cosine's gradients are tiny and differ by voxel over decades.
        guess.grad = torch.autograd.grad(objective, guess)[0].sign()
        optimizer.step()
        rates.step()
    return guess.detach()


def _inner(first: Direction, second: Direction) -> torch.Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def _norm(direction: Direction) -> torch.Tensor:
    return _inner(direction, direction).sqrt().clamp(min=1e-12)


def _total_variation(images: torch.Tensor) -> torch.Tensor:
    """Mean step between neighbouring voxels."""
    return torch.stack([images.diff(dim=axis).abs().mean() for axis in (-3, -2, -1)]).sum()


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Over all voxels of two patches; 0 where one is the same everywhere."""
    a, b = first.flatten() - first.mean(), second.flatten() - second.mean()
    length = float(a.norm() * b.norm())
    return float(a @ b) / length if length > 0 else 0.0


def _psnr_db(guess: torch.Tensor, patch: torch.Tensor) -> float:
    """Peak signal to noise of a guess whose intensities are fitted to the patch by a line.

    0 where the patch is the same everywhere, and so has no peak.
    """
    unexplained = max(1 - _correlation(guess, patch) ** 2, 1e-12)
    error = float(patch.var(correction=0)) * unexplained
    peak = float(patch.max() - patch.min())
    return 10 * math.log10(peak**2 / error) if error > 0 else 0.0


def _summary(exposure: Exposure, rows: Sequence[_Likeness]) -> Inversion:
    """Means over attacks on different patches."""
    gains = np.array([row.correlation - row.chance for row in rows])
    half = t_half(gains)
    return Inversion(
        exposure=exposure.name,
        correlation=float(np.mean([row.correlation for row in rows])),
        chance=float(np.mean([row.chance for row in rows])),
        advantage=float(gains.mean()),
        advantage_low=float(gains.mean()) - half,
        advantage_high=float(gains.mean()) + half,
        psnr_db=float(np.mean([row.psnr_db for row in rows])),
        chance_psnr_db=float(np.mean([row.chance_psnr_db for row in rows])),
        repeats=len(rows),
    )
