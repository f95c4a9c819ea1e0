"""How certain the published model is about each case that waits, computed in the background."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import max_pool3d

from segfed.errors import SegfedError
from segfed.files import write_json
from segfed.protocol import Split
from segfed.sites import Case, Site, load_site
from segfed.study import current_model

logger = logging.getLogger(__name__)

BLIND_SPLITS: tuple[Split, ...] = ("validation", "test")
"""Models are chosen and scored on these labels, so no model may have had a hand in them."""

_RADIUS_VOXELS = 2
_PAUSE_SECONDS = 0.5


def mean_entropy(scores: torch.Tensor) -> float:
    """Mean entropy of the classes in and around what a model predicts, from 0 to 1.

    The usual measure of uncertainty sampling (Settles, Active Learning Literature Survey, 2009,
    section 3.1; for 3D segmentation Nath et al., IEEE TMI 40(10), 2021), divided by that of equal
    probabilities. Only the predicted structures and two voxels around them count: a mean over the
    whole image would mostly say how large it is.

    Args:
        scores: Class probabilities, shape (K, I, J, K), background first.

    Returns:
        1 where no structure is predicted: every case of a task is expected to have one, so that a
        model that finds none is at a loss.
    """
    found = (scores.argmax(dim=0) != 0).float()[None]
    size = 2 * _RADIUS_VOXELS + 1
    near = max_pool3d(found, kernel_size=size, stride=1, padding=_RADIUS_VOXELS)[0] != 0
    if not near.any():
        return 1.0
    entropy = torch.special.entr(scores[:, near]).sum(dim=0)
    return float(entropy.double().mean()) / math.log(len(scores))


class Uncertainties:
    """The scores of a site's cases under its published model, kept in the site's cache.

    They are computed by `run`, in a thread of the server's, when somebody has asked for them, and
    only while the worker process has nothing else to do. Another published model begins anew.
    Cases of the validation and test split have none.
    """

    def __init__(
        self,
        site_folder: Path,
        *,
        job: Callable[..., float],
        ask_if_idle: Callable[[Callable[[], float]], float | None],
    ) -> None:
        """Prepare without computing anything.

        Args:
            site_folder: The site.
            job: Scores a case under the bundle ``model_folder``.
            ask_if_idle: Has a job done by the worker process; None if that has no time.
        """
        self._site_folder = site_folder
        self._job = job
        self._ask_if_idle = ask_if_idle
        self._is_wanted = threading.Event()
        self._failed: set[Path] = set()

    def known(self) -> dict[str, float]:
        """The scores computed so far under the model that is published now, by case."""
        site = load_site(self._site_folder)
        return {
            case.case_id: float(json.loads(path.read_text(encoding="utf-8"))["mean_entropy"])
            for case, path in self._files(site, current_model(site))
            if path.exists()
        }

    def want(self) -> None:
        """Have the scores that are missing computed."""
        self._is_wanted.set()

    def run(self) -> None:
        """Compute what is wanted, for ever; for a thread that ends with the process."""
        while True:
            self._is_wanted.wait()
            self._is_wanted.clear()
            try:
                while self.compute_next() is not None:
                    pass
            except Exception:
                # A site that is being edited may be unreadable for a moment: the next wish counts.
                logger.exception("The uncertainty of the waiting cases could not be computed")

    def compute_next(self) -> str | None:
        """Compute one missing score, or wait a little for the worker.

        Returns:
            The case that was tried; None if no score is missing.
        """
        site = load_site(self._site_folder)
        folder = current_model(site)
        for case, path in self._files(site, folder):
            if path.exists() or path in self._failed:
                continue
            try:
                score = self._ask_if_idle(partial(self._job, case, model_folder=folder))
            except SegfedError as error:
                self._failed.add(path)
                logger.info("Case %s gets no uncertainty: %s", case.case_id, error)
                return case.case_id
            if score is None:
                threading.Event().wait(_PAUSE_SECONDS)
            else:
                write_json(path, {"mean_entropy": score})
            return case.case_id
        return None

    def _files(self, site: Site, model_folder: Path | None) -> list[tuple[Case, Path]]:
        """Where the score of each case lies that may have one."""
        if model_folder is None:
            return []
        # A published bundle's folder is named after the hash of its weights.
        scores = site.folder / "cache" / "uncertainty" / model_folder.name
        return [
            (case, scores / f"{case.image_sha256}.json")
            for case in site.cases
            if case.split not in BLIND_SPLITS
        ]
