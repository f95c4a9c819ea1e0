"""Which case a reader gets next.

A reader with assignments gets the next assigned case, whatever strategy was asked for: the order of
a reader study is part of its design.
"""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.strategy import Strategy

from label_app.store import SiteDatastore
from label_app.uncertainty import BLIND_SPLITS, Uncertainties


class OldestFirst(Strategy):
    """The case that was assigned, or else imported, first."""

    def __init__(self) -> None:
        super().__init__("Cases in the order in which they were assigned or imported")

    def __call__(self, request: dict[str, Any], datastore: SiteDatastore) -> dict[str, str] | None:
        """The next case's id, or None when nothing is left."""
        waiting = datastore.get_unlabeled_images()
        return {"id": waiting[0]} if waiting else None


class RandomOrder(Strategy):
    """Any case that waits, each as likely as any other."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__("Cases in random order; assigned cases in the order of assignment")
        self._rng = rng

    def __call__(self, request: dict[str, Any], datastore: SiteDatastore) -> dict[str, str] | None:
        """The next case's id, or None when nothing is left."""
        waiting = _choice(datastore)
        return {"id": waiting[int(self._rng.integers(len(waiting)))]} if waiting else None


class LeastCertain(Strategy):
    """The case about which the published model is least certain.

    Takes the scores as they are, and has missing ones computed after the request. Cases without a
    score come after those with one, in the order of import; cases of the validation and test
    split, which never have one, come last.
    """

    def __init__(self, uncertainties: Uncertainties) -> None:
        super().__init__(
            "Cases on which the published model is least certain first; assigned cases in the "
            "order of assignment"
        )
        self._uncertainties = uncertainties

    def __call__(self, request: dict[str, Any], datastore: SiteDatastore) -> dict[str, str] | None:
        """The next case's id, or None when nothing is left."""
        waiting = _choice(datastore)
        if not waiting:
            return None
        self._uncertainties.want()
        scores = self._uncertainties.known()
        blind = {c.case_id for c in datastore.site.cases if c.split in BLIND_SPLITS}
        # The first of equals stays first.
        return {"id": min(waiting, key=lambda case: (case in blind, -scores.get(case, -1.0)))}


def _choice(datastore: SiteDatastore) -> Sequence[str]:
    """The cases among which a strategy may choose: one for a reader with assignments.

    One, too, for a reader who has left a case open: with a further one at each request a single
    reader would soon keep all cases from the others.
    """
    waiting: list[str] = datastore.get_unlabeled_images()
    if waiting and datastore.arm(waiting[0]) is not None:
        return waiting[:1]
    left_open = datastore.left_open()
    return [case_id for case_id in waiting if case_id in left_open][:1] or waiting
