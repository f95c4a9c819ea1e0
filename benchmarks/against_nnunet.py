"""Seconds a training step takes nnU-Net's own trainer, and ours with the same network.

    python benchmarks/against_nnunet.py --nnunet-python PATH [--data FOLDER] [--steps 7]

`--nnunet-python` is an interpreter of an environment with `pip install nnunetv2==2.8.1` and, for a
fair race, the same PyTorch; nnU-Net is no dependency of segfed. Both processes live at the same
time and step in turns, so that other programs on the machine slow both alike; compare ratios, those
of the clock where it is idle and of the processor's seconds where not (with OMP_NUM_THREADS=1). The
network is the one that nnU-Net plans for the hippocampus volumes of `training_speed.py`: the script
compares the shapes of all convolutions. Ours takes its steps in bfloat16 where the processor has
units for it, and in float32 beside it; nnU-Net's trainer takes float32 on a CPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from training_speed import DATA, TASK, labelled_cases, trainer

from segfed.engine import LocalTrainer, Plan, PreparedCase, build_network, make_plan, prepare
from segfed.engine.blocks import Convolution
from segfed.engine.device import has_bfloat16_units
from segfed.sites import load_task

WORKER = Path(__file__).with_name("nnunet_worker.py")
CPU = torch.device("cpu")

Seconds = npt.NDArray[np.float64]
"""On the clock, and of the processor: over all threads, and whatever else the machine does."""


class Rival:
    """nnU-Net's trainer in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until it is ready to step."""
        self._process = process
        self.about: dict[str, Any] = self._answer()

    def step(self) -> tuple[Seconds, Seconds]:
        """Seconds of loading and of the step itself."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        loading, step = (np.array(each) for each in self._answer())
        return loading, step

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"nnU-Net stopped with {self._process.wait()}; see its log above.")
        return json.loads(line)


@contextmanager
def rival(python: Path, data: Path, *, work: Path, cases: int, batch: int) -> Iterator[Rival]:
    """nnU-Net's trainer, which ends with the context."""
    options = {"--data": data, "--work": work, "--cases": cases, "--batch": batch}
    command = [python, WORKER, *itertools.chain.from_iterable(options.items())]
    with (
        (work.parent / "nnunet.log").open("w") as log,
        subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Rival(process)
        except SystemExit:
            print((work.parent / "nnunet.log").read_text()[-4000:])
            raise
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def same_plan(about: dict[str, Any], batch: int) -> Plan:
    """Our plan for nnU-Net's network; its axes run the other way round."""
    strides = [tuple(reversed(stride)) for stride in about["strides"]]
    return make_plan(
        load_task(TASK),
        {
            "spacing_mm": tuple(reversed(about["spacing"])),
            "patch_voxels": tuple(reversed(about["patch"])),
            "features": about["features"],
            "strides": [] if all(stride == (2, 2, 2) for stride in strides) else strides,
            "stem_stride": 1,
            "batch_size": batch,
            "deep_supervision": True,
            "learning_rate": 1e-3,
        },
    )


def check_same_network(about: dict[str, Any], plan: Plan) -> None:
    """Print both counts of parameters; refuse networks that differ in a convolution."""
    theirs = {name: tuple(shape) for name, shape in about["parameters"].items()}
    # nnU-Net lists the decoder's parts twice, and names the encoder inside the decoder, too.
    ours = {n: tuple(p.shape) for n, p in build_network(plan, seed=0).named_parameters()}
    found, expected = (
        sorted(
            s for n, s in each.items() if len(s) == 5 and "seg_layers" not in n and "heads" not in n
        )
        for each in (ours, theirs)
    )
    if found != expected:
        raise SystemExit(f"The networks differ: ours has {found}, nnU-Net's {expected}.")
    counts = [sum(math.prod(shape) for shape in each.values()) for each in (ours, theirs)]
    print(
        f"parameters: segfed {counts[0]:,}, nnU-Net {counts[1]:,}: all convolutions are alike; "
        "nnU-Net has a bias before each norm, which takes it away again, and a head whose loss has "
        "the weight 0"
    )


def convolution_seconds(plan: Plan) -> tuple[float, float]:
    """Processor seconds of a step's convolutions, each by itself: forward, and backward.

    Without upsampling and heads, which are matrix products here.
    """
    network = build_network(plan, seed=0)
    seen: list[tuple[Convolution, torch.Size]] = []
    for module in network.modules():
        if isinstance(module, Convolution):
            module.register_forward_hook(lambda layer, data, _: seen.append((layer, data[0].shape)))
    with torch.no_grad():
        network.at_scales(torch.zeros(plan.batch_size, plan.n_inputs, *plan.patch_voxels))
    dtype = torch.bfloat16 if has_bfloat16_units(CPU) else torch.float32
    forward = backward = 0.0
    for layer, shape in seen:
        image, weight = (
            each.to(dtype).contiguous(memory_format=torch.channels_last_3d)
            for each in (torch.randn(shape), layer.weight.detach())
        )
        convolve = partial(
            torch.nn.functional.conv3d, image, weight, stride=layer.stride, padding=layer.padding
        )
        gradient = partial(
            torch.ops.aten.convolution_backward,
            *(torch.randn_like(convolve()), image, weight, None),
            *(layer.stride, layer.padding, (1, 1, 1), False, (0, 0, 0), 1),
            (layer is not seen[0][0], True, False),  # the image needs no gradient
        )
        forward += fastest(convolve)
        backward += fastest(gradient)
    return forward, backward


def fastest(function: Callable[[], object]) -> float:
    """Processor seconds of the fastest of a few calls; the first one also plans."""
    taken = []
    for _ in range(4):
        started = time.process_time()
        function()
        taken.append(time.process_time() - started)
    return min(taken[1:])


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nnunet-python", type=Path, required=True, help="with nnunetv2 installed")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each side")
    parser.add_argument("--batch", type=int, default=7, help="patches a step")
    parser.add_argument("--cases", type=int, default=200, help="cases that both train on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with rival(
            arguments.nnunet_python,
            arguments.data,
            work=folder / "nnunet",
            cases=arguments.cases,
            batch=arguments.batch,
        ) as nnunet:
            plan = same_plan(nnunet.about, arguments.batch)
            print(
                f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads (nnU-Net "
                f"{nnunet.about['threads']}); features {plan.features}, patch {plan.patch_voxels}, "
                f"batch {plan.batch_size} (nnU-Net's plan: {nnunet.about['planned_batch']})"
            )
            check_same_network(nnunet.about, plan)
            labelled = labelled_cases(arguments.data, folder / "sites")[: arguments.cases]
            cases = prepare(labelled, plan, folder / "cache")
            race(nnunet, plan, cases, steps=arguments.steps)


def race(nnunet: Rival, plan: Plan, cases: tuple[PreparedCase, ...], *, steps: int) -> None:
    """Let all sides step in turns, and print medians and ratios."""
    run = trainer(plan, cases, seed=0, steps=1000, device=CPU)
    ours: dict[str, Callable[[], Seconds]] = {"segfed": lambda: one_step(run)}
    if has_bfloat16_units(CPU):
        ours["segfed in float32"] = lambda: float32_step(run)
    seconds: dict[str, list[Seconds]] = {}
    for turn in range(steps + 1):
        loading, step = nnunet.step()
        each = {"nnU-Net": step, "nnU-Net with loading": loading + step}
        each |= {name: take() for name, take in ours.items()}
        if turn:  # the first step also plans convolutions and fills caches
            for name, value in each.items():
                seconds.setdefault(name, []).append(value)
    medians = {name: np.median(values, axis=0) for name, values in seconds.items()}
    print(f"medians of {steps} steps: seconds on the clock (from, to), and of the processor")
    for name, (clock, processor) in medians.items():
        every = [value[0] for value in seconds[name]]
        print(f"{name:22s} {clock:6.2f} ({min(every):.2f} {max(every):.2f})  {processor:6.2f}")
    print("x the step rate of nnU-Net without its loading, and with it, by clock and processor:")
    for name in ours:
        for rival_name in ("nnU-Net", "nnU-Net with loading"):
            clock, processor = medians[rival_name] / medians[name]
            print(f"{name:22s} over {rival_name:22s} {clock:.2f} {processor:.2f}")
    forward, backward = convolution_seconds(plan)
    print(
        f"convolutions of a step alone: {forward:.2f} processor seconds forward, {backward:.2f} "
        "backward"
    )


def one_step(run: LocalTrainer) -> Seconds:
    """Seconds of a step in the midst of a training, loading and augmentation included."""
    clocks: list[Seconds] = []
    run.run(2, lambda *_: clocks.append(np.array([time.perf_counter(), time.process_time()])))
    return clocks[1] - clocks[0]


def float32_step(run: LocalTrainer) -> Seconds:
    """Seconds of a step as if the processor had no units for bfloat16."""
    with patch("segfed.engine.device.has_bfloat16_units", return_value=False):
        return one_step(run)


if __name__ == "__main__":
    main()
