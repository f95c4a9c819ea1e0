"""The app that MONAI Label loads: one reader's work on one site."""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from label_app.clicks import ClickHelper
from label_app.inference import uncertainty
from label_app.proposals import Proposer
from label_app.reader import current_reader
from label_app.sampling import LeastCertain, OldestFirst, RandomOrder
from label_app.store import SiteDatastore
from label_app.training import FineTuner, TrainingJob
from label_app.uncertainty import Uncertainties
from label_app.wishes import allowed_wishes
from label_app.worker import TIMEOUT_SECONDS, Worker
from segfed.errors import SegfedError
from segfed.files import remove_leftovers
from segfed.study import click_model_name, model_fault

logger = logging.getLogger(__name__)

_LEFTOVER_SECONDS = 3600.0  # storing a label takes seconds


class SegfedLabelApp(MONAILabelApp):
    """Serves a site's cases to 3D Slicer and takes labels back.

    MONAI Label wants a direct subclass of its own class, in a file called ``main.py``. The
    studies are the ``images`` folder of a site; ``--conf device cpu`` says where the model runs,
    and ``--conf proposal_timeout_seconds 600`` how long a proposal may take. Who works is known
    to the gate in front of it, request by request.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self._store = SiteDatastore(Path(studies).parent, reader=lambda: current_reader().name)
        self._offering = threading.Lock()
        self._device = conf.get("device", "auto")
        timeout_seconds = float(conf.get("proposal_timeout_seconds", TIMEOUT_SECONDS))
        self._worker = Worker(timeout_seconds=timeout_seconds)
        self._proposer = Proposer(self._store, device=self._device, ask=self._worker.ask)
        self._click_helper = ClickHelper(self._store, device=self._device, ask=self._worker.ask)
        self._uncertainties = Uncertainties(
            self._store.site_folder,
            job=partial(uncertainty, device=self._device),
            ask_if_idle=self._worker.ask_if_idle,
        )
        self.training = TrainingJob(self._store.site_folder, device=self._device)
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
        """The published models: under the task's name, and what helps with clicks beside it."""
        task = self._store.site.task
        return {task.name: self._proposer, click_model_name(task): self._click_helper}

    def init_trainers(self) -> dict[str, TrainTask]:
        """The site's own training, under the task's name."""
        return {self._store.site.task.name: FineTuner(self.training)}

    def init_strategies(self) -> dict[str, Strategy]:
        """How the next case is chosen."""
        return {
            "oldest_first": OldestFirst(),
            "random": RandomOrder(np.random.default_rng()),
            "least_certain": LeastCertain(self._uncertainties),
        }

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
        # One reader at a time: between choosing a case and opening it, another one would be
        # offered the same.
        with self._offering:
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
            HTTPException: 404 for an unknown model or case, or for one that is published but
                broken, 422 if there can be no proposal.
        """
        request = allowed_wishes(request, labels=self._store.site.task.labels)
        model = self._infers.get(request.get("model"))
        if model is None or not model.is_valid():
            raise HTTPException(404, self._why_not(request.get("model")))
        file, params = model(request)
        return {"file": file, "label": file, "params": params}

    def _why_not(self, name: str | None) -> str:
        """Why a model proposes nothing."""
        site = self._store.site
        clicks = {site.task.name: False, click_model_name(site.task): True}
        if name in clicks and (fault := model_fault(site, clicks=clicks[name])):
            return f"The published model {name!r} cannot be used: {fault} Until then draw by hand."
        return (
            f"Found no published model {name!r}; expected one of "
            f"{', '.join(map(repr, clicks))}, once it is published. Draw by hand, or "
            "have whoever runs the server publish it."
        )

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
        """Start what works beside the requests."""
        threading.Thread(target=self._work_in_background, daemon=True).start()
        logger.info("Serving site %s", self._store.site.name)

    def _work_in_background(self) -> None:
        """Tidy up, load the published model, then score cases whenever somebody wants it."""
        folder = self._store.site_folder
        for written in (folder, folder / "labels"):
            remove_leftovers(written, older_than_seconds=_LEFTOVER_SECONDS)
        try:
            self._worker.ask_if_idle(self._proposer.warm_up_job())
        except SegfedError as error:
            logger.warning("The published model could not be loaded at the start: %s", error)
        self._uncertainties.run()
