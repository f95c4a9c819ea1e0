"""Seconds to predict a small case: segfed beside MONAI's own pieces, same network.

    python benchmarks/case_prediction.py [--data FOLDER] [--cases 40]

The cases are the hippocampus volumes of `training_speed.py`, the network is the task's with random
weights. `in memory` is from the image's voxels to a label on its own grid; for MONAI it is
`sliding_window_inference` and argmax alone, of an image that is prepared already. `with files`
reads the image and writes the label, too. All ways take turns on every case; medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from monai import transforms as mt
from monai.inferers import sliding_window_inference
from training_speed import DATA, TASK

from segfed.engine import (
    Lineage,
    Model,
    build_network,
    make_plan,
    predict_label,
    prepared_image,
    select_device,
)
from segfed.engine.files import Input, predict_files
from segfed.sites import load_task
from segfed.volumes import read_channels

OVERLAP = 0.5
WINDOWS_AT_ONCE = 4
NOWHERE = Lineage(study="none", arm="manual", seed=0, sites=(), data=(), train_images={})


@torch.no_grad()
def monai_label(model: Model, image: torch.Tensor) -> torch.Tensor:
    """The label (1, I, J, K) of a prepared image (C, I, J, K) on the same grid."""
    scores = sliding_window_inference(
        image[None], model.plan.patch_voxels, WINDOWS_AT_ONCE, model.network, overlap=OVERLAP
    )
    return scores.argmax(dim=1)


def monai_file(model: Model, path: Path, out: Path, device: torch.device) -> None:
    """The label of a file in a file, by MONAI's dictionary transforms."""
    prepare = mt.Compose(
        [
            mt.LoadImaged("image"),
            mt.EnsureChannelFirstd("image"),
            mt.Orientationd("image", "RAS", labels=None),
            mt.Spacingd("image", model.plan.spacing_mm, mode="bilinear"),
            mt.NormalizeIntensityd("image", nonzero=True),
        ]
    )
    finish = mt.Compose(
        [
            mt.Invertd("pred", prepare, orig_keys="image", nearest_interp=True),
            mt.SaveImaged("pred", output_dir=out, output_postfix="", print_log=False),
        ]
    )
    case = prepare({"image": path})
    label = monai_label(model, case["image"].to(device)).cpu()
    finish({**case, "pred": label})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with dataset.json")
    parser.add_argument("--cases", type=int, default=40)
    arguments = parser.parse_args()
    device = select_device("auto")
    plan = make_plan(load_task(TASK))
    model = Model(plan, build_network(plan, seed=0).to(device).eval(), "0" * 64, NOWHERE)
    paths = sorted((arguments.data / "imagesTr").glob("[!.]*.nii.gz"))[: arguments.cases]
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        for number, path in enumerate(paths):
            volume = read_channels({plan.channels[0]: path})
            image = prepared_image(plan, volume).as_tensor().to(device)
            case = Input(path.name.removesuffix(".nii.gz"), {plan.channels[0]: path})
            ways: dict[str, Callable[[], object]] = {
                "segfed in memory": partial(
                    predict_label, [model.network], plan, volume, device=device
                ),
                "MONAI in memory": partial(monai_label, model, image),
                "segfed with files": partial(predict_files, model, [case], out, device=device),
                "MONAI with files": partial(monai_file, model, path, out / "monai", device),
            }
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                if number:  # the first case also plans convolutions
                    seconds.setdefault(name, []).append(time.perf_counter() - started)
    print(
        f"PyTorch {torch.__version__}, {device.type}, {torch.get_num_threads()} threads; "
        f"{len(paths) - 1} cases, UNet {plan.features}, stem {plan.stem_stride}"
    )
    for name, values in seconds.items():
        print(f"{name:18s} {1000 * statistics.median(values):6.1f} ms")


if __name__ == "__main__":
    main()
