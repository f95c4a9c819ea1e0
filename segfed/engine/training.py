"""Training on one machine's cases: a site's share of a federation, or a model of its own."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segfed.engine.cache import PreparedCase
from segfed.engine.clicks import with_simulated_clicks
from segfed.engine.device import enough_memory, mixed_precision, place
from segfed.engine.loss import loss_at_scales
from segfed.engine.network import UNet
from segfed.engine.plan import Plan
from segfed.engine.prediction import validation_dice
from segfed.engine.sampling import draw_batch
from segfed.engine.steering import Steering
from segfed.engine.weights import State, check_weights, copy_state, from_bytes, to_bytes
from segfed.errors import TrainingError
from segfed.learning_rate import schedule
from transforms.augment import augment

_LOG = logging.getLogger(__name__)

_WEIGHT_DECAY = 1e-4
_MAX_GRADIENT_NORM = 12.0
_ADVICE = "Lower patch_voxels or features in the plan, or use a GPU with more memory."


@dataclass(frozen=True)
class TrainSummary:
    """What a stretch of training brought."""

    loss: float
    """Mean over the steps."""

    steps: int
    seconds: float
    n_cases: int
    """Cases that the patches were drawn from."""

    best_step: int | None = None
    """The step of the best validation; None where nothing was validated."""

    peak_bytes: int | None = None
    """Most memory that PyTorch took on the GPU at once; None on a CPU."""


OnStep = Callable[[int, float], None]
"""Called after each step with the number of steps done so far and the step's loss."""


class LocalTrainer:
    """Trains a network on a set of cases, in one stretch or in many rounds.

    One trainer serves a whole run: the learning rate's schedule spans ``total_steps``, and the
    optimizer's memory survives when ``load_weights`` puts other weights in place. Each step's
    patches and augmentation depend on nothing but the seed and the step's number.
    """

    def __init__(
        self,
        plan: Plan,
        cases: Sequence[PreparedCase],
        *,
        network: UNet,
        seed: int,
        total_steps: int,
        device: torch.device,
    ) -> None:
        """Take hold of network and cases; nothing is computed yet.

        Args:
            plan: The plan that the network was built by.
            cases: Cases to draw patches from.
            network: The network to train, in place.
            seed: Decides patches and augmentation.
            total_steps: Steps of the whole run, over all its rounds.
            device: Where to compute; the network is moved there.

        Raises:
            TrainingError: If there are no cases, or nothing to do.
        """
        if not cases or total_steps < 1:
            raise TrainingError(
                f"Training was asked to take {total_steps} steps on {len(cases)} cases; expected "
                "at least one of each. Label or import cases, or raise the budget."
            )
        self.plan = plan
        self.cases = tuple(cases)
        self.network = place(network, device)
        self.seed = seed
        self.total_steps = total_steps
        self.device = device
        self.steps_done = 0
        self._n_parts = 1
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=plan.learning_rate, weight_decay=_WEIGHT_DECAY
        )

    def load_weights(self, state: State) -> None:
        """Go on from other weights; schedule and optimizer keep their place.

        Raises:
            WeightsError: If the weights are not for this network.
        """
        check_weights(state, self.network)
        self.network.load_state_dict(state)

    def weights(self) -> dict[str, torch.Tensor]:
        """The network's weights as they are now, on the CPU."""
        return copy_state(self.network)

    def progress(self) -> bytes:
        """Weights, optimizer and place in the schedule, as safetensors, for ``resume``."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, memory in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{name}": value for name, value in memory.items()}
        return to_bytes(state | {"run": torch.tensor(self._run_identity(self.steps_done))})

    def resume(self, progress: bytes) -> None:
        """Go on where another trainer stopped; the result is that of one that never stopped.

        Args:
            progress: What ``progress`` of a trainer of the same run gave.

        Raises:
            WeightsError: If the bytes are damaged, or the weights are for another network.
            TrainingError: If they come from a run with another seed or length.
        """
        state = from_bytes(progress, source="the stored progress")
        found = state["run"].tolist() if "run" in state else []
        if found[1:] != self._run_identity(0)[1:]:
            raise TrainingError(
                f"The stored progress is of a run with (steps done, total steps, seed) {found}, "
                f"but this run has {self.total_steps} steps and seed {self.seed}. Start the run "
                "anew, or resume it with the settings that it began with."
            )
        self.load_weights(_below("network", state))
        memory: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below("optimizer", state).items():
            index, key = name.split(".", 1)
            memory.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": memory, "param_groups": groups})
        self.steps_done = found[0]

    def _run_identity(self, steps_done: int) -> list[int]:
        """Steps done, total steps and seed."""
        return [steps_done, self.total_steps, self.seed]

    def run(
        self,
        steps: int,
        on_step: OnStep | None = None,
        *,
        seconds: float | None = None,
        proximal_mu: float = 0.0,
        correction: State | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> TrainSummary:
        """Take some of the run's steps.

        Args:
            steps: How many; beyond ``total_steps`` the learning rate stays at its last value.
            on_step: Called after each step.
            seconds: Begin no step after so long, but take at least one.
            proximal_mu: Adds (mu / 2) ||w - w0||² to the loss, w0 being the weights before the
                first of these steps (FedProx, Li et al. 2020); the reported loss is without it.
            correction: SCAFFOLD's c - c_i by parameter, which each step takes off, times its rate.
            clock: Measures the seconds.

        Raises:
            TrainingError: If the loss is no longer a number.
            OutOfMemoryError: If the device cannot hold a single patch. A batch that does not fit
                is taken in parts, whose gradients are added up.
        """
        started = clock()
        self.network.train()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        steering = Steering(self.network, mu=proximal_mu, correction=correction)
        losses: list[float] = []
        for _ in range(steps):
            if losses and seconds is not None and clock() - started >= seconds:
                break
            loss = self._step(steering)
            losses.append(loss)
            self.steps_done += 1
            if on_step:
                on_step(self.steps_done, loss)
        return TrainSummary(
            loss=float(np.mean(losses)) if losses else math.nan,
            steps=len(losses),
            seconds=clock() - started,
            n_cases=len(self.cases),
            peak_bytes=self._peak_bytes(),
        )

    def _peak_bytes(self) -> int | None:
        """Most GPU memory since the stretch began."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_reserved(self.device)
        _LOG.info("Training took %.1f GB of GPU memory at most.", peak / 1e9)
        return peak

    def _step(self, steering: Steering) -> float:
        """One optimizer step; returns its loss."""
        rate = self.plan.learning_rate * schedule(self.steps_done, self.total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with enough_memory(self.device, otherwise=_ADVICE):
            images, labels = self._batch()
            value = self._gradients(images, labels)
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss became {value} in step {self.steps_done + 1} of {self.total_steps} at "
                f"the learning rate {rate:.2g}; expected a finite number. Lower learning_rate in "
                f"the plan (now {self.plan.learning_rate:g}), or check the images' intensities."
            )
        steering.before_step()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step()
        steering.after_step(rate)
        return value

    def _gradients(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Loss of a batch and its gradients, in as few parts as have fitted into memory so far."""
        while (loss := self._gradients_of_parts(images, labels)) is None:
            self._n_parts = min(2 * self._n_parts, len(images))
            _LOG.warning(
                "A batch of %d patches does not fit into the memory of %s: gradients are added up "
                "over %d parts from now on. Dice is then taken over each part by itself.",
                len(images),
                self.device,
                self._n_parts,
            )
        return loss

    def _gradients_of_parts(self, images: torch.Tensor, labels: torch.Tensor) -> float | None:
        """As ``_gradients``; None where memory ran out, but smaller parts may fit."""
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        parts = zip(images.chunk(self._n_parts), labels.chunk(self._n_parts), strict=True)
        try:
            for image, label in parts:
                with mixed_precision(self.device):
                    scales = self.network.at_scales(image)
                loss = loss_at_scales(scales, label, structures=self.plan.structures.values())
                loss = loss * (len(image) / len(images))
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        except torch.OutOfMemoryError:
            if self._n_parts >= len(images):
                raise
            # Memory is free again once this frame is gone.
            return None
        return total

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented images and labels of the next step, on the device."""
        rng = np.random.default_rng((self.seed, self.steps_done))
        images, labels = draw_batch(
            self.cases,
            patch_voxels=self.plan.patch_voxels,
            batch_size=self.plan.batch_size,
            rng=rng,
        )
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        images, labels = augment(
            images.to(self.device),
            labels.to(self.device),
            spacing_mm=self.plan.spacing_mm,
            mirror_axes=self.plan.mirror_axes,
            generator=generator,
        )
        if self.plan.click_target is not None:
            _, value = self.plan.click_target
            seed = int(rng.integers(2**63))
            images = with_simulated_clicks(self.network, images, labels, value=value, seed=seed)
        return images.contiguous(memory_format=torch.channels_last_3d), labels


def _below(prefix: str, state: State) -> dict[str, torch.Tensor]:
    """The entries of a state whose names begin with a prefix, without it."""
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in state.items()
        if name.startswith(f"{prefix}.")
    }


def train_local(
    plan: Plan,
    cases: Sequence[PreparedCase],
    *,
    validation: Sequence[PreparedCase] = (),
    network: UNet,
    seed: int,
    total_steps: int,
    n_validations: int = 5,
    device: torch.device,
    on_step: OnStep | None = None,
) -> tuple[dict[str, torch.Tensor], TrainSummary]:
    """Train without a federation; returns the best weights and what training brought.

    The best weights are those with the highest mean Dice of the structures over the validation
    cases, measured at ``n_validations`` evenly spaced moments, and the earlier of two equals, as in
    a federation; where no Dice could be measured, the last.

    Raises:
        TrainingError: If there are no cases, or the loss is no longer a number.
    """
    trainer = LocalTrainer(
        plan, cases, network=network, seed=seed, total_steps=total_steps, device=device
    )
    n_stretches = min(n_validations, total_steps) if validation else 1
    ends = [round(total_steps * (n + 1) / n_stretches) for n in range(n_stretches)]
    best: dict[str, torch.Tensor] | None = None
    best_dice, best_step, summaries = -math.inf, None, []
    for end in ends:
        summaries.append(trainer.run(end - trainer.steps_done, on_step))
        scores = validation_dice(network, plan, validation, device=device) if validation else {}
        measured = [value for value in scores.values() if math.isfinite(value)]
        mean_dice = float(np.mean(measured)) if measured else -math.inf
        if mean_dice > best_dice:
            best, best_dice, best_step = trainer.weights(), mean_dice, trainer.steps_done
    return best or trainer.weights(), TrainSummary(
        loss=summaries[-1].loss,
        steps=trainer.steps_done,
        seconds=sum(summary.seconds for summary in summaries),
        n_cases=len(trainer.cases),
        best_step=best_step,
        peak_bytes=max((s.peak_bytes for s in summaries if s.peak_bytes), default=None),
    )
