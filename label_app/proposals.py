"""Proposals: what the site's published model makes of a case."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from label_app.answers import explaining
from label_app.segments import segments_present
from label_app.store import SiteDatastore
from segfed.engine import Model, load_bundle, predict_label, select_device
from segfed.engine.bundle import LINEAGE
from segfed.errors import CaseError
from segfed.files import sha256_file
from segfed.protocol import Split
from segfed.sites import Case, store_label
from segfed.study import current_model
from segfed.volumes import Volume, read_channels, read_grid, write_label

_RESULT_EXTENSIONS = (".nrrd", ".nii.gz", ".nii")
_BLIND_SPLITS: tuple[Split, ...] = ("validation", "test")
"""Models are chosen and scored on these labels, so no model may have had a hand in them."""


class Proposer(InferTask):
    """The model that the site has published for its task, whichever that is at the moment."""

    def __init__(self, store: SiteDatastore, *, device: str) -> None:
        task = store.site.task
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=task.labels,
            dimension=3,
            description=task.title,
        )
        self._store = store
        self._device = select_device(device)
        self._loaded: tuple[tuple[Path, str], Model] | None = None

    def is_valid(self) -> bool:
        """Whether a model is published; MONAI Label lists only valid ones."""
        with explaining():
            return current_model(self._store.site) is not None

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The proposal for a case, as a file and what Slicer must know about it.

        A reader who was asked to draw the case by hand gets an empty mask instead, and so does
        everybody for a case of the validation or test split, whatever was asked: a model must not
        be chosen or scored by labels that began as a proposal. It is a mask and no error because
        Slicer asks for a proposal whenever it opens a case.

        Raises:
            HTTPException: 404 for an unknown case, 422 with the reason if there can be no
                proposal for it.
        """
        start = time.perf_counter()
        case = self._store.case(str(request.get("image")))
        extension = str(request.get("result_extension", ".nrrd"))
        if extension not in _RESULT_EXTENSIONS:
            raise HTTPException(
                422,
                f"Found result_extension {extension!r}; expected one of "
                f"{', '.join(_RESULT_EXTENSIONS)}. Change the request.",
            )
        with explaining():
            if case.split in _BLIND_SPLITS or self._store.arm(case.case_id) == "manual":
                label, made_by = self._blank(case)
            else:
                label, made_by = self._propose(case)
        answer = {
            "label_names": segments_present(label, self._store.site.task),
            "latencies": {"total": round(time.perf_counter() - start, 3)},
            **made_by,
        }
        return _as_file(label, extension), answer

    def _propose(self, case: Case) -> tuple[Volume, dict[str, str]]:
        """A proposal that is stored and noted before anybody sees it."""
        model = self._current()
        check_unseen(model, case)
        label = predict_label(
            [model.network], model.plan, read_channels(case.channels), device=self._device
        )
        made_by = {
            "proposal_sha256": store_label(self._store.site_folder, label),
            "model_sha256": model.sha256,
        }
        self._store.note_proposal(case.case_id, **made_by)
        return label, made_by

    def _blank(self, case: Case) -> tuple[Volume, dict[str, str]]:
        """A mask without a voxel, which no model made."""
        grid = read_grid(case.channels[self._store.site.task.display_channel])
        return Volume(np.zeros((1, *grid.shape), dtype=np.uint8), grid), {}

    def _current(self) -> Model:
        """The published model, loaded anew whenever another one is published."""
        folder = current_model(self._store.site)
        if folder is None:
            raise CaseError(
                f"Site {self._store.site.name} has no published model; expected one for a "
                "proposal. Publish one, or draw the case by hand."
            )
        # The same weights may be published again with a corrected lineage.
        version = (folder, sha256_file(folder / LINEAGE))
        if self._loaded is None or self._loaded[0] != version:
            self._loaded = (version, load_bundle(folder))
        return self._loaded[1]


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


def _as_file(label: Volume, extension: str) -> str:
    """Write a label to a temporary file, which MONAI Label removes once it is sent."""
    with tempfile.NamedTemporaryFile(suffix=extension, delete=False) as handle:
        path = Path(handle.name)
    write_label(label, path)
    return str(path)
