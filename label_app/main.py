"""The app that MONAI Label loads: one reader's work on one site."""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

import getpass
import logging
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy

from label_app.proposals import Proposer
from label_app.sampling import OldestFirst
from label_app.store import SiteDatastore

logger = logging.getLogger(__name__)


class SegfedLabelApp(MONAILabelApp):
    """Serves a site's cases to 3D Slicer and takes labels back.

    MONAI Label wants a direct subclass of its own class, in a file called ``main.py``. The
    studies are the ``images`` folder of a site; ``--conf reader NAME`` says who works, by default
    the operating system's user, and ``--conf device cpu`` where the model runs.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        reader = conf.get("reader") or getpass.getuser()
        self._store = SiteDatastore(Path(studies).parent, reader=lambda: reader)
        self._device = conf.get("device", "auto")
        task = self._store.site.task
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"segfed: {self._store.site.name}",
            description=task.title,
            labels=sorted(task.labels, key=lambda name: task.labels[name]),
        )

    def init_datastore(self) -> SiteDatastore:
        """The site's folder."""
        return self._store

    def init_infers(self) -> dict[str, InferTask]:
        """The published model, under the task's name."""
        return {self._store.site.task.name: Proposer(self._store, device=self._device)}

    def init_strategies(self) -> dict[str, Strategy]:
        """How the next case is chosen."""
        return {"oldest_first": OldestFirst()}

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reader's next case; empty when none is left.

        A case whose image is damaged is skipped, and the log says so.

        Raises:
            HTTPException: 404 for an unknown strategy, 422 if only damaged cases are left.
        """
        if request.get("strategy") not in self._strategies:
            raise HTTPException(
                404,
                f"Found strategy {request.get('strategy')!r}; expected one of "
                f"{', '.join(self._strategies)}. Choose another one.",
            )
        while sample := super().next_sample(request):
            try:
                self._store.open_case(sample["id"])
            except HTTPException as error:
                if not self._store.set_aside(sample["id"]):
                    raise
                logger.warning("Skipped for %s: %s", self._store.reader, error.detail)
            else:
                return dict(sample)
        return {}

    def infer(self, request: dict[str, Any], datastore: object = None) -> dict[str, Any]:
        """A proposal for one of the site's cases, named by its id and never by a path.

        Raises:
            HTTPException: 404 for an unknown model or case, 422 if there can be no proposal.
        """
        model = self._infers.get(request.get("model"))
        if model is None or not model.is_valid():
            raise HTTPException(
                404,
                f"Found no published model {request.get('model')!r}; a model is named as its "
                f"task, {self._store.site.task.name!r} here. Publish one, or draw by hand.",
            )
        file, params = model(request)
        return {"file": file, "label": file, "params": params}

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """What Slicer shows after a save: how the label was recorded."""
        record = self._store.last_record(image_id)
        if record is None:
            return {}
        return {
            "origin": record.origin,
            "status": record.status,
            "record": record.record_id,
            "label_sha256": record.label_sha256,
        }

    def on_init_complete(self) -> None:
        """Nothing to schedule: there are no scores to compute and no sessions to expire."""
        logger.info("Serving site %s to reader %s", self._store.site.name, self._store.reader)
