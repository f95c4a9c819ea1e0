"""``segfed predict``: labels for images, by a published model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.sites import load_task


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Images, or folders of images. For a model of several channels: folders that "
            "hold one file a channel, named <case>-<channel>.nii.gz.",
        ),
    ],
    model: Annotated[
        Path, typer.Option("--model", help="Model folder, as `segfed model export` writes it.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the labels: <case>.nii.gz.")],
    task: Annotated[
        str | None, typer.Option("--task", help="Task file, where the model's is not built in.")
    ] = None,
    device: console.Device = "auto",
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also predict mirrored, and average: slower.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the labels that an interrupted run has written.")
    ] = False,
) -> None:
    """Label images, each on its own grid."""
    import numpy as np

    from segfed.engine import load_bundle, select_device
    from segfed.engine.files import Input, find_inputs, predict_files
    from segfed.evaluation import structure_mask
    from segfed.volumes import Volume

    loaded = load_bundle(model)
    cases = find_inputs(images, plan=loaded.plan, task=load_task(task or loaded.plan.task))
    structures = loaded.plan.structures
    table = Table("case", *(f"{name} (ml)" for name in structures), box=None, header_style="bold")
    unusual: list[str] = []
    with console.progress_bars() as progress:
        bar = progress.add_task("predict", total=len(cases), note="")

        def advance(case: Input, label: Volume) -> None:
            masks = (structure_mask(label.data, values) for values in structures.values())
            volumes = (np.count_nonzero(mask) * label.grid.voxel_mm3 / 1000 for mask in masks)
            table.add_row(case.case_id, *(f"{volume:.1f}" for volume in volumes))
            progress.update(bar, advance=1, note=case.case_id)

        predict_files(
            loaded,
            cases,
            out,
            device=select_device(device),
            mirror=mirror,
            resume=resume,
            on_case=advance,
            on_drift=lambda case, words: unusual.append(f"{case.case_id}: {'; '.join(words)}."),
        )
    console.out.print(table)
    console.show_warnings(unusual)
    if unusual:
        console.err.print(
            f"{len(unusual)} of {len(cases)} images are unlike those that the model was trained "
            "on: look at their labels before you use them."
        )
    if loaded.lineage.inputs is None:
        console.show_warnings(["the model does not say what it was trained on: nothing compared."])
    console.out.print(f"Labels: {out}", soft_wrap=True)
