"""nnU-Net's own trainer, one step at a time, for `against_nnunet.py`, which starts this.

Runs under an interpreter that has nnunetv2, and imports nothing of segfed. nnU-Net makes its own
fingerprint, plan and preprocessed cases; only the batch is set, so that both sides see as many
patches a step. Each line that arrives on the standard input asks for a step; each answer is a line
of JSON. What nnU-Net prints goes to the standard error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path

DATASET_ID, DATASET = 4, "Dataset004_Hippocampus"
CONFIGURATION = "3d_fullres"


def link_raw(data: Path, raw: Path, n_cases: int) -> None:
    """Some cases of a Decathlon folder, as nnU-Net wants raw data to lie."""
    description = json.loads((data / "dataset.json").read_text())
    for folder in ("imagesTr", "labelsTr"):
        (raw / DATASET / folder).mkdir(parents=True)
    for entry in description["training"][:n_cases]:
        name = Path(entry["image"]).name.removesuffix(".nii.gz")
        image = raw / DATASET / "imagesTr" / f"{name}_0000.nii.gz"
        image.symlink_to((data / entry["image"]).resolve())
        label = raw / DATASET / "labelsTr" / f"{name}.nii.gz"
        label.symlink_to((data / entry["label"]).resolve())
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": min(n_cases, len(description["training"])),
        "file_ending": ".nii.gz",
    }
    (raw / DATASET / "dataset.json").write_text(json.dumps(content))


def main() -> None:
    """Prepare, then answer until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    arguments = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr
    folders = {name: arguments.work / name for name in ("raw", "preprocessed", "results")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(folder)
    link_raw(arguments.data, folders["raw"], arguments.cases)

    import torch
    from nnunetv2.experiment_planning import plan_and_preprocess_api as prepare
    from nnunetv2.run.run_training import get_trainer_from_args

    n_threads = torch.get_num_threads()
    prepare.extract_fingerprints([DATASET_ID], num_processes=1)
    prepare.plan_experiments([DATASET_ID])
    plans_file = folders["preprocessed"] / DATASET / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    plan = plans["configurations"][CONFIGURATION]
    planned_batch, plan["batch_size"] = plan["batch_size"], arguments.batch
    plans_file.write_text(json.dumps(plans))
    prepare.preprocess([DATASET_ID], configurations=[CONFIGURATION], num_processes=[1])
    # No processes for augmentation, which would run while the other side is timed.
    os.environ |= {"nnUNet_n_proc_DA": "0"}
    torch.set_num_threads(n_threads)  # the planner changes it
    trainer = get_trainer_from_args(
        str(DATASET_ID), CONFIGURATION, "all", device=torch.device("cpu")
    )
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    trainer.network.train()
    network = plan["architecture"]["arch_kwargs"]
    about = {
        "planned_batch": planned_batch,
        "patch": plan["patch_size"],
        "spacing": plan["spacing"],
        "features": network["features_per_stage"],
        "strides": network["strides"][1:],
        "threads": torch.get_num_threads(),
        "parameters": {name: list(p.shape) for name, p in trainer.network.named_parameters()},
    }
    print(json.dumps(about), file=answers, flush=True)
    for _ in sys.stdin:
        clocks = [(time.perf_counter(), time.process_time())]
        batch = next(trainer.dataloader_train)
        clocks.append((time.perf_counter(), time.process_time()))
        trainer.train_step(batch)
        clocks.append((time.perf_counter(), time.process_time()))
        # Seconds on the clock and of the processor, of loading and of the step itself
        answer = [
            [after - before for before, after in zip(*pair, strict=True)]
            for pair in itertools.pairwise(clocks)
        ]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
