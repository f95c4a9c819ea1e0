"""Which case a reader gets next."""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class OldestFirst(Strategy):
    """The case that was assigned, or else imported, first."""

    def __init__(self) -> None:
        super().__init__("Cases in the order in which they were imported")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, str] | None:
        """The next case's id, or None when nothing is left."""
        waiting = datastore.get_unlabeled_images()
        return {"id": waiting[0]} if waiting else None
