"""Help while a reader edits: clicks on a structure, and beside it, correct its segment."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from label_app.answers import explaining
from label_app.proposals import Ask, is_blind, is_usable, result_extension, served
from label_app.refinement import click_target, refine
from label_app.store import SiteDatastore
from label_app.wishes import wished_clicks
from segfed.engine import bundle_plan, select_device
from segfed.errors import CaseError
from segfed.study import current_model
from segfed.volumes import read_grid


class ClickHelper(InferTask):
    """The model that the site has published for clicks, whichever that is at the moment.

    Its type is MONAI Label's ``deepgrow``: 3D Slicer then offers points on the selected segment
    and beside it, sends all of them with each request, and replaces that one segment. For
    ``deepedit`` it would send points of every segment, none of them beside it, and replace all
    segments in the answer: what the reader corrected elsewhere would be lost.
    """

    def __init__(self, store: SiteDatastore, *, device: str, ask: Ask) -> None:
        """Prepare without loading a model; see `Proposer`."""
        super().__init__(
            type=InferType.DEEPGROW,
            labels={},
            dimension=3,
            description="Corrects a segment where the reader clicks",
        )
        self._store = store
        self._device = str(select_device(device))
        self._ask = ask

    def is_valid(self) -> bool:
        """Whether such a model is published; MONAI Label lists only valid ones."""
        return is_usable(self._is_published)

    def info(self) -> dict[str, Any]:
        """What Slicer reads; the label is that of the model that is published now."""
        with explaining(self._store.site_folder):
            name, value = click_target(bundle_plan(self._published()))
        return dict(super().info()) | {"labels": {name: value}}

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The corrected segment, alone in a file, and what Slicer must know about it.

        A reader who must not see what a model makes of the case is told so: unlike a proposal,
        which Slicer asks for by itself, somebody has clicked and waits for an answer.

        Raises:
            HTTPException: 404 for an unknown case, 422 with the reason if there can be no help,
                503 if the worker process failed or is too busy.
        """
        start = time.perf_counter()
        extension = result_extension(request)
        case, site = self._store.case(str(request.get("image"))), self._store.site
        with explaining(self._store.site_folder):
            if is_blind(self._store, case):
                raise CaseError(
                    f"Case {case.case_id} is to be drawn by hand, expected one for which a model "
                    "may help: clicks are answered by a model. Go on with the other tools."
                )
            folder = self._published()
            _check_segment(request.get("label"), click_target(bundle_plan(folder))[0])
            clicks = wished_clicks(
                request, shape=read_grid(case.channels[site.task.display_channel]).shape
            )
            job = partial(
                refine,
                site,
                case,
                clicks,
                shown_sha256=self._store.shown_proposal(case.case_id),
                model_folder=folder,
                device=self._device,
                extension=extension,
            )
            file, answer = served(self._store, case, job, ask=self._ask, kind="clicked")
        answer["latencies"]["total"] = round(time.perf_counter() - start, 4)
        return str(file), answer

    def _is_published(self) -> bool:
        """Whether a bundle answers clicks, with a plan that can be read; see `info`."""
        folder = current_model(self._store.site, clicks=True)
        return folder is not None and bool(click_target(bundle_plan(folder)))

    def _published(self) -> Path:
        """The bundle that answers clicks."""
        folder = current_model(self._store.site, clicks=True)
        if folder is None:
            raise CaseError(
                f"Site {self._store.site.name} has no published model for clicks; expected one. "
                "Go on with the other tools. Whoever runs the server can make one: `segfed train "
                "SITE --clicks LABEL --publish`."
            )
        return folder


def _check_segment(selected: object, name: str) -> None:
    """Refuse clicks on another segment than the one that the model corrects."""
    if isinstance(selected, str) and selected.casefold() != name.casefold():
        raise CaseError(
            f"The segment {selected!r} is selected, but the published model corrects {name!r} "
            f"only. Select the segment {name!r}, or go on with the other tools."
        )
