"""Seconds and peak memory of predicting one CT: segfed beside MONAI's own pieces, same network.

    python benchmarks/prediction_speed.py [--shape 512 512 300] [--repeats 3] [--of segfed MONAI]

The CT is a body that fills 80 % of the field of view from right to left and 60 % from back to
front, in air. MONAI gets what its tutorials use: `Orientationd`, `Spacingd`,
`ScaleIntensityRanged`, `sliding_window_inference` (Gaussian weights, overlap one half, 4 windows at
once), `Invertd` on the scores, argmax; once as it is, and once with `CropForegroundd` to the body.
Weights are random: times do not depend on them. Every measurement has a process of its own, they
take turns, and medians are printed, with their ratio to the first one's; files are neither read nor
written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from segfed.engine import Plan, build_network, make_plan, predict_label, select_device
from segfed.sites import load_task
from segfed.volumes import Grid, Volume

WINDOWS_AT_ONCE = 4
OVERLAP = 0.5
BODY = (0.8, 0.6)


def the_plan(arguments: argparse.Namespace) -> Plan:
    """The kidney task's plan with the network that was asked for."""
    return make_plan(
        load_task("kidney_tumor"),
        {"features": arguments.features, "stem_stride": arguments.stem_stride},
    )


def body_in_air(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    """Soft tissue with noise inside an elliptic cylinder, -1000 HU around it."""
    rng = np.random.default_rng(0)
    i, j = (
        np.linspace(-1, 1, size)[:, None] / share
        for size, share in zip(shape[:2], BODY, strict=True)
    )
    inside = i**2 + j.T**2 < 1
    hu = np.full(shape, -1000, dtype=np.float32)
    noise = rng.normal(scale=40, size=(int(inside.sum()), 1)).astype(np.float32)
    hu[inside] = 50 + noise + 100 * np.sin(np.arange(shape[2], dtype=np.float32) / 7)
    return Volume(
        hu[None], Grid(shape, np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1]))
    )


def with_segfed(plan: Plan, image: Volume, device: torch.device) -> np.ndarray:
    """The label, as a label server or `segfed predict` makes it."""
    return predict_label([build_network(plan, seed=0)], plan, image, device=device).data[0]


def with_monai(
    plan: Plan, image: Volume, device: torch.device, *, crop: bool = False
) -> np.ndarray:
    """The label from MONAI's transforms, inferer and inversion."""
    from monai import transforms as mt
    from monai.data import MetaTensor
    from monai.inferers import sliding_window_inference

    lower, upper = plan.window_hu or (0, 1)
    steps: list[Any] = [
        mt.Orientationd("image", "RAS", labels=None),
        mt.Spacingd("image", plan.spacing_mm, mode="bilinear"),
        mt.ScaleIntensityRanged("image", lower, upper, 0, 1, clip=True),
    ]
    prepare = mt.Compose([*steps, mt.CropForegroundd("image", "image")] if crop else steps)
    finish = mt.Compose(
        [
            mt.Invertd("pred", prepare, orig_keys="image", nearest_interp=False, to_tensor=True),
            mt.AsDiscreted("pred", argmax=True),
        ]
    )
    network = build_network(plan, seed=0).to(device).eval()
    affine = torch.as_tensor(image.grid.affine)
    case = prepare({"image": MetaTensor(torch.from_numpy(image.data.copy()), affine=affine)})
    with torch.no_grad():
        scores = sliding_window_inference(
            case["image"][None].to(device),
            plan.patch_voxels,
            WINDOWS_AT_ONCE,
            network,
            overlap=OVERLAP,
            mode="gaussian",
        )
    return finish({**case, "pred": scores[0].cpu()})["pred"][0].numpy().astype(np.uint8)


WAYS: dict[str, Callable[..., np.ndarray]] = {
    "segfed": with_segfed,
    "MONAI": with_monai,
    "MONAI, cropped": lambda *what: with_monai(*what, crop=True),
}


def measure(name: str, arguments: argparse.Namespace, sender: Any) -> None:
    """Send seconds, peak memory in GiB and the share of voxels that are not background."""
    device = select_device("auto")
    plan, image = the_plan(arguments), body_in_air(arguments.shape, arguments.spacing_mm)
    started = time.perf_counter()
    label = WAYS[name](plan, image, device)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    sender.send((seconds, peak, np.bincount(label.ravel(), minlength=plan.n_classes) / label.size))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--spacing-mm", type=float, nargs=3, default=(0.8, 0.8, 1.0))
    parser.add_argument("--features", type=int, nargs="+", default=(16, 32, 64))
    parser.add_argument("--stem-stride", type=int, choices=(1, 2), default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--of", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    arguments.shape, arguments.spacing_mm = tuple(arguments.shape), tuple(arguments.spacing_mm)
    plan = the_plan(arguments)
    print(
        f"PyTorch {torch.__version__}, {select_device('auto').type}, {torch.get_num_threads()} "
        f"threads; {arguments.shape} voxels of {arguments.spacing_mm} mm at {plan.spacing_mm} mm; "
        f"UNet {plan.features}, stem {plan.stem_stride}, patch {plan.patch_voxels}; "
        f"{arguments.repeats} repeats"
    )
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float, np.ndarray]]] = {name: [] for name in arguments.of}
    for _ in range(arguments.repeats):
        for name, rows in found.items():
            receiver, sender = spawn.Pipe(duplex=False)
            process = spawn.Process(target=measure, args=(name, arguments, sender))
            process.start()
            sender.close()
            rows.append(receiver.recv())
            process.join()
    seconds = {name: statistics.median(row[0] for row in rows) for name, rows in found.items()}
    for name, rows in found.items():
        classes = " ".join(f"{100 * share:.1f}" for share in rows[0][2])
        ratio = seconds[name] / seconds[arguments.of[0]]
        print(
            f"{name:15s} {seconds[name]:7.1f} s   {ratio:5.2f} x   "
            f"peak {max(row[1] for row in rows):.2f} GiB   voxels by class: {classes} %"
        )


if __name__ == "__main__":
    main()
