"""Prediction from files to files: which images make a case, and where its label goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segfed.engine.bundle import Model
from segfed.engine.drift import drift, image_features
from segfed.engine.plan import Plan
from segfed.engine.prediction import predict_label
from segfed.errors import CaseError, ConfigError
from segfed.files import write_json
from segfed.sites import Task
from segfed.sites.imports import find_brats
from segfed.volumes import VOLUME_SUFFIXES, Volume, read_channels, read_label, write_label

RECORD = "prediction.json"


@dataclass(frozen=True)
class Input:
    """One case to predict."""

    case_id: str
    channels: dict[str, Path]
    """File of each channel, in the model's order."""


def find_inputs(paths: Sequence[Path], *, plan: Plan, task: Task) -> tuple[Input, ...]:
    """The cases that some paths hold.

    Where the model has one channel, a file is a case, and a folder holds a case a file. Where it
    has several, a folder holds one file a channel, at any depth, named ``<case>-<channel>.nii.gz``
    by any of the task's names for that channel.

    Args:
        paths: Files and folders.
        plan: The model's plan.
        task: The model's task, for the names of its channels.

    Raises:
        CaseError: If a path is missing, holds no image, lacks a channel, or names a case again.
        ConfigError: If a folder of several channels holds no case.
    """
    inputs: dict[str, Input] = {}
    for path in paths:
        if not path.exists():
            raise CaseError(f"There is no file or folder {path}. Check the path.")
        several = len(plan.channels) > 1
        found = _channel_files(path, plan, task) if several else _images(path, plan)
        for case in found:
            if case.case_id in inputs:
                raise CaseError(
                    f"{path} holds case {case.case_id!r}, which an earlier path holds too; "
                    "expected each name once, because it names the label. Rename one of them."
                )
            inputs[case.case_id] = case
    return tuple(inputs.values())


def predict_files(
    model: Model,
    inputs: Sequence[Input],
    out: Path,
    *,
    device: torch.device,
    mirror: bool = False,
    resume: bool = False,
    on_case: Callable[[Input, Volume], None] | None = None,
    on_drift: Callable[[Input, tuple[str, ...]], None] | None = None,
) -> None:
    """Write a label for each case, on the case's own grid, as ``<out>/<case>.nii.gz``.

    ``<out>/prediction.json`` says by which model, and is written before the first label.

    Args:
        model: The model.
        inputs: The cases.
        out: Folder of the labels; a label that lies there is replaced.
        device: Where to compute.
        mirror: Also predict mirrored, along the axes that were mirrored in training.
        resume: Keep labels that are newer than ``prediction.json`` and all images of their case.
        on_case: Called with each case and its label once that is written, or kept.
        on_drift: Called with each predicted case that is unlike those that the model was trained
            on, and in words how; see `drift`.

    Raises:
        VolumeError: If an image cannot be read.
        GeometryError: If the channels of a case are on different grids.
        ConfigError: If the folder to resume was begun with another model, or not so mirrored.
        OutOfMemoryError: If the device cannot hold a single window.
    """
    axes = model.plan.mirror_axes if mirror else ()
    record, settings = out / RECORD, {"model_sha256": model.sha256, "mirror_axes": list(axes)}
    has_begun = resume and record.exists()
    if has_begun:
        _check_same(record, settings)
    for case in inputs:
        path = out / f"{case.case_id}.nii.gz"
        if has_begun and _is_newer(path, [record, *case.channels.values()]):
            label = read_label(path)
        else:
            volume = read_channels(case.channels)
            unusual: list[str] = []
            label = predict_label(
                [model.network],
                model.plan,
                volume,
                device=device,
                mirror_axes=axes,
                on_prepared=partial(_note_drift, unusual, model, volume),
            )
            if on_drift and unusual:
                on_drift(case, tuple(unusual))
            if not has_begun:
                write_json(record, settings)
                has_begun = True
            write_label(label, path)
        if on_case:
            on_case(case, label)


def _note_drift(unusual: list[str], model: Model, volume: Volume, image: torch.Tensor) -> None:
    """Add in words how an image is unlike those of a model's training."""
    if model.lineage.inputs is not None:
        features = image_features(image.numpy(), grid=volume.grid, plan=model.plan)
        unusual += drift(model.lineage.inputs, features)


def _check_same(record: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with labels that were made in another way."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        found = "no JSON"
    if found != settings:
        raise ConfigError(
            f"{record} says that the labels beside it were made with {found}; expected {settings}. "
            "Predict into another folder, or leave out --resume to make them all anew."
        )


def _is_newer(path: Path, sources: Sequence[Path]) -> bool:
    """Whether a file is there that was written after some others."""
    if not path.exists():
        return False
    written = path.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns <= written for source in sources)


def _images(path: Path, plan: Plan) -> list[Input]:
    """The cases of a one-channel model at a path."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    images = [file for file in files if _case_id(file) and not file.name.startswith(".")]
    if not images:
        raise CaseError(
            f"{path} holds no image; expected a file ending in {', '.join(VOLUME_SUFFIXES)}, or a "
            "folder of such files. Check the path."
        )
    return [Input(_case_id(file), {plan.channels[0]: file}) for file in images]


def _channel_files(path: Path, plan: Plan, task: Task) -> list[Input]:
    """The cases of a model with several channels at a path."""
    if not path.is_dir():
        raise CaseError(
            f"{path} is one file, but the model needs the channels {', '.join(plan.channels)}. "
            "Give the folder that holds one file a channel, named <case>-<channel>.nii.gz."
        )
    inputs = []
    for case in find_brats(path, task=task):
        missing = [channel for channel in plan.channels if channel not in case.channels]
        if missing:
            raise CaseError(
                f"Case {case.case_id} in {path} lacks {', '.join(missing)}; found "
                f"{', '.join(case.channels) or 'no channel'}. Add the missing files, named "
                "<case>-<channel>.nii.gz."
            )
        inputs.append(Input(case.case_id, {name: case.channels[name] for name in plan.channels}))
    return inputs


def _case_id(file: Path) -> str:
    """A file's name without its suffix; empty for a file that is no volume."""
    for suffix in VOLUME_SUFFIXES:
        if file.name.lower().endswith(suffix):
            return file.name[: -len(suffix)]
    return ""
