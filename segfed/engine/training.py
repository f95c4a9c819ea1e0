"""Training on one machine's cases: a site's share of a federation, or a model of its own."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from segfed.engine.batches import Patches, draw_patches, training_batch
from segfed.engine.cache import PreparedCase
from segfed.engine.device import autotuned, enough_memory, place, reused_memory
from segfed.engine.gradients import BatchGradients
from segfed.engine.network import UNet
from segfed.engine.optimizer import load_optimizer, make_optimizer, optimizer_tensors
from segfed.engine.plan import Plan
from segfed.engine.steering import Steering
from segfed.engine.weights import State, check_weights, copy_state, from_bytes, to_bytes
from segfed.errors import TrainingError
from segfed.learning_rate import schedule

_LOG = logging.getLogger(__name__)

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
        self._gradients = BatchGradients(self.network, plan, device=device)
        self._optimizer = make_optimizer(self.network, learning_rate=plan.learning_rate)

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
        memory = optimizer_tensors(self._optimizer)
        state |= {f"optimizer.{name}": value for name, value in memory.items()}
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
        load_optimizer(self._optimizer, _below("optimizer", state))
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
        tuning = autotuned(self.device, wanted=self.plan.autotune)
        with tuning, reused_memory(self.device), ThreadPoolExecutor(max_workers=1) as ahead:
            # What a step draws depends on its number alone, not on when it is drawn.
            drawn = ahead.submit(self._draw, self.steps_done)
            for _ in range(steps):
                if losses and seconds is not None and clock() - started >= seconds:
                    break
                patches, drawn = drawn.result(), ahead.submit(self._draw, self.steps_done + 1)
                loss = self._step(patches, steering)
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

    def _step(self, patches: Patches, steering: Steering) -> float:
        """One optimizer step; returns its loss."""
        rate = self._set_rate()
        with enough_memory(self.device, otherwise=_ADVICE):
            images, labels = training_batch(patches, self.plan, self.network, device=self.device)
            value = self._gradients.take(images, labels)
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

    def follow_gradients(self) -> None:
        """One optimizer step along the gradients that the weights have, taken as they are."""
        self._set_rate()
        self._optimizer.step()
        self.steps_done += 1

    def _set_rate(self) -> float:
        """Give the optimizer the learning rate of the next step; returns it."""
        rate = self.plan.learning_rate * schedule(self.steps_done, self.total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _draw(self, step: int) -> Patches:
        """The patches of a step; read ahead by another thread."""
        return draw_patches(
            self.cases, self.plan, rng=np.random.default_rng((self.seed, step)), device=self.device
        )


def _below(prefix: str, state: State) -> dict[str, torch.Tensor]:
    """The entries of a state whose names begin with a prefix, without it."""
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in state.items()
        if name.startswith(f"{prefix}.")
    }
