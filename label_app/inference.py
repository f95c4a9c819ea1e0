"""What the worker process does with the published model: propose labels, say how certain it is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from label_app.segments import segments_present
from label_app.uncertainty import mean_entropy
from label_app.worker import make_way
from segfed.engine import (
    Model,
    load_bundle,
    predict_label,
    predict_scores,
    prepared_image,
    select_device,
)
from segfed.engine.bundle import LINEAGE
from segfed.errors import CaseError
from segfed.files import sha256_file
from segfed.sites import Case, Site, store_label
from segfed.volumes import Volume, read_channels, write_label


@dataclass(frozen=True)
class Proposal:
    """A stored proposal, and a file of it for the reader."""

    file: Path
    """Temporary; the caller removes it."""

    label_names: dict[str, int]
    proposal_sha256: str
    model_sha256: str
    study: str
    round: int | None
    seconds: dict[str, float]
    """By step; ``forward``, the network alone, is part of ``predict``."""


def propose(site: Site, case: Case, *, model_folder: Path, device: str, extension: str) -> Proposal:
    """The model's label of a case, stored at the site.

    Args:
        site: The site.
        case: One of its cases.
        model_folder: The published bundle; it stays loaded until another one is asked for.
        device: Where to compute.
        extension: Format of the reader's file.

    Raises:
        CaseError: If the model was trained on the case.
        SegfedError: If model or image are missing or damaged.
        MemoryError: If the device or this machine has not enough memory.
    """
    clock = Clock()
    model = loaded_model(model_folder)
    check_unseen(model, case)
    clock.lap("load")
    volume = read_channels(case.channels)
    clock.lap("read")
    with out_of_memory(), timed(model.network) as forward:
        label = predict_label([model.network], model.plan, volume, device=select_device(device))
    clock.lap("predict")
    proposal_sha256 = store_label(site.folder, label)
    clock.lap("store")
    file = as_file(label, extension)
    clock.lap("write")
    return Proposal(
        file=file,
        label_names=segments_present(label, site.task),
        proposal_sha256=proposal_sha256,
        model_sha256=model.sha256,
        study=model.lineage.study,
        round=model.lineage.round,
        seconds=clock.seconds | {"forward": sum(forward)},
    )


def uncertainty(case: Case, *, model_folder: Path, device: str) -> float:
    """How uncertain the model is about a case it has never seen; see `mean_entropy`.

    Args and errors are those of `propose`; makes way for a proposal between two windows.
    """
    model = loaded_model(model_folder)
    check_unseen(model, case)
    hook = model.network.register_forward_pre_hook(lambda *_: make_way())
    try:
        with out_of_memory():
            image = prepared_image(model.plan, read_channels(case.channels))
            scores = predict_scores(
                [model.network], model.plan, image.as_tensor(), device=select_device(device)
            )
    finally:
        hook.remove()
    return mean_entropy(scores)


def warm_up(model_folder: Path | None, *, device: str) -> None:
    """Load the model, so that the first reader need not wait for it, nor for the imports."""
    where = select_device(device)
    if model_folder is not None:
        loaded_model(model_folder).network.to(where)


def check_unseen(model: Model, case: Case) -> None:
    """Refuse a proposal from a model that was trained on the case itself.

    Raises:
        CaseError: If the model's lineage holds the case's image.
    """
    if model.lineage.saw(case.image_sha256):
        raise CaseError(
            f"Case {case.case_id} is among the training images of model {model.sha256[:12]} "
            f"(study {model.lineage.study}); expected a case that the model has never seen, "
            "because its proposal would be better than on any other. Draw it by hand, or publish "
            "a model that was trained without it."
        )


def as_file(label: Volume, extension: str) -> Path:
    """A label in a temporary file, which MONAI Label removes once it is sent."""
    with tempfile.NamedTemporaryFile(suffix=extension, delete=False) as handle:
        path = Path(handle.name)
    write_label(label, path, durable=False)
    return path


def loaded_model(folder: Path) -> Model:
    """A published model, loaded anew whenever another one is published."""
    # The same weights may be published again with a corrected lineage.
    return _loaded(folder, sha256_file(folder / LINEAGE))


# One that proposes and one that takes clicks.
@lru_cache(maxsize=2)
def _loaded(folder: Path, lineage_sha256: str) -> Model:  # noqa: ARG001 -- part of the key
    return load_bundle(folder)


@contextmanager
def out_of_memory() -> Iterator[None]:
    """PyTorch's ways to say that memory is exhausted, as Python's own."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except RuntimeError as error:
        # What the CPU's allocator raises has no class of its own.
        if "can't allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def timed(network: nn.Module) -> Iterator[list[float]]:
    """Collect the seconds of each forward pass."""
    seconds: list[float] = []

    def start(*_: object) -> None:
        seconds.append(-_now())

    def stop(*_: object) -> None:
        seconds[-1] += _now()

    hooks = (network.register_forward_pre_hook(start), network.register_forward_hook(stop))
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _now() -> float:
    """Seconds, once the GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """Seconds of one step after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Note the time since the last step."""
        now = time.perf_counter()
        self.seconds[step] = now - self._last
        self._last = now
