"""Proposals: what the site's published model makes of a case."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from label_app.answers import explaining
from label_app.inference import Proposal, as_file, propose, warm_up
from label_app.store import SiteDatastore
from label_app.uncertainty import BLIND_SPLITS
from segfed.engine import select_device
from segfed.errors import CaseError, SegfedError, ServerError
from segfed.sites import Case, Site
from segfed.study import current_model
from segfed.volumes import Volume, read_grid

logger = logging.getLogger(__name__)

_RESULT_EXTENSIONS = (".nrrd", ".nii.gz", ".nii")
_Result = TypeVar("_Result")


class Ask(Protocol):
    """Has a job done by the worker process; see `label_app.worker.Worker.ask`."""

    def __call__(self, job: Callable[[], _Result]) -> _Result: ...


class Proposer(InferTask):
    """The model that the site has published for its task, whichever that is at the moment.

    It computes nothing itself: the worker process loads the model, predicts, stores the label and
    writes the file.
    """

    def __init__(self, store: SiteDatastore, *, device: str, ask: Ask) -> None:
        """Prepare without loading a model.

        Args:
            store: The site.
            device: Where the model runs.
            ask: Has a job done by the worker process.

        Raises:
            ConfigError: If there is no such device here.
        """
        task = store.site.task
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=task.labels,
            dimension=3,
            description=task.title,
        )
        self._store = store
        self._device = str(select_device(device))
        self._ask = ask

    def is_valid(self) -> bool:
        """Whether a model is published; MONAI Label lists only valid ones."""
        return is_usable(lambda: current_model(self._store.site) is not None)

    def warm_up_job(self) -> Callable[[], None]:
        """What the worker can do before the first reader asks."""
        return partial(warm_up, current_model(self._store.site), device=self._device)

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The proposal for a case, as a file and what Slicer must know about it.

        A reader who was asked to draw the case by hand gets an empty mask instead, and so does
        everybody for a case of the validation or test split, whatever was asked: a model must not
        be chosen or scored by labels that began as a proposal. It is a mask and no error because
        Slicer asks for a proposal whenever it opens a case.

        Raises:
            HTTPException: 404 for an unknown case, 422 with the reason if there can be no
                proposal for it, 503 if the worker process failed or is too busy.
        """
        start = time.perf_counter()
        extension = result_extension(request)
        case, site = self._store.case(str(request.get("image"))), self._store.site
        with explaining(self._store.site_folder):
            if is_blind(self._store, case):
                file, answer = _blank(site, case, extension), {"label_names": {}, "latencies": {}}
            else:
                file, answer = self._propose(site, case, extension)
        answer["latencies"]["total"] = round(time.perf_counter() - start, 4)
        return str(file), answer

    def _propose(self, site: Site, case: Case, extension: str) -> tuple[Path, dict[str, Any]]:
        """A proposal that is stored and noted before anybody sees it."""
        folder = current_model(site)
        if folder is None:
            raise CaseError(
                f"Site {site.name} has no published model; expected one for a proposal. Draw "
                "the case by hand; whoever runs the server can publish one: `segfed model publish`."
            )
        job = partial(
            propose, site, case, model_folder=folder, device=self._device, extension=extension
        )
        return served(self._store, case, job, ask=self._ask)


def is_usable(check: Callable[[], bool]) -> bool:
    """Whether a model passes a check; a broken one does not, and the log says why.

    MONAI Label asks this before it offers a case: an error here would keep everybody from drawing
    by hand, too.
    """
    try:
        return check()
    except (SegfedError, OSError) as error:
        logger.warning("A published model cannot be used: %s", error)
        return False


def result_extension(request: Mapping[str, Any]) -> str:
    """The format in which a reader wants a label.

    Raises:
        HTTPException: 422 for one that is not written here.
    """
    extension = str(request.get("result_extension", ".nrrd"))
    if extension not in _RESULT_EXTENSIONS:
        raise HTTPException(
            422,
            f"Found result_extension {extension!r}; expected one of "
            f"{', '.join(_RESULT_EXTENSIONS)}. Change the request.",
        )
    return extension


def is_blind(store: SiteDatastore, case: Case) -> bool:
    """Whether the reader must see nothing that a model made of a case."""
    return case.split in BLIND_SPLITS or store.arm(case.case_id) == "manual"


def served(
    store: SiteDatastore,
    case: Case,
    job: Callable[[], Proposal],
    *,
    ask: Ask,
    kind: Literal["proposed", "clicked"] = "proposed",
) -> tuple[Path, dict[str, Any]]:
    """What the worker proposes, noted before anybody sees it, and what Slicer must know about it.

    Args:
        store: The site.
        case: The case.
        job: Makes the label.
        ask: Has it done by the worker process.
        kind: Whether it is a proposal or the answer to clicks.

    Raises:
        HTTPException: 503 if the worker process failed or is too busy.
        SegfedError: If the job itself raised it.
    """
    try:
        made = ask(job)
    except ServerError as error:
        raise HTTPException(503, str(error)) from error
    try:
        store.note_proposal(
            case.case_id,
            proposal_sha256=made.proposal_sha256,
            model_sha256=made.model_sha256,
            kind=kind,
        )
    except BaseException:
        made.file.unlink(missing_ok=True)
        raise
    return made.file, {
        "label_names": made.label_names,
        "latencies": {step: round(seconds, 4) for step, seconds in made.seconds.items()},
        "proposal_sha256": made.proposal_sha256,
        "model_sha256": made.model_sha256,
        "study": made.study,
        "round": made.round,
    }


def _blank(site: Site, case: Case, extension: str) -> Path:
    """A mask without a voxel, which no model made."""
    grid = read_grid(case.channels[site.task.display_channel])
    return as_file(Volume(np.zeros((1, *grid.shape), dtype=np.uint8), grid), extension)
