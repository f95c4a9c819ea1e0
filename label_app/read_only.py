"""What MONAI Label could add, change or remove, refused in one place."""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore


class ReadOnlyDatastore(Datastore):
    """MONAI Label's store without its means to alter anything; labels are only ever added."""

    def set_name(self, name: str) -> NoReturn:
        """Refused."""
        _refuse("rename a site")

    def set_description(self, description: str) -> NoReturn:
        """Refused."""
        _refuse("describe a site")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> NoReturn:
        """Refused."""
        _refuse("add an image; `segfed site import` does")

    def remove_image(self, image_id: str) -> NoReturn:
        """Refused."""
        _refuse("remove an image")

    def remove_label(self, label_id: str, label_tag: str) -> NoReturn:
        """Refused."""
        _refuse("remove a label; submit a better one")

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> NoReturn:
        """Refused."""
        _refuse("change a label's record")

    def get_dataset_archive(self, limit_cases: int | None) -> NoReturn:
        """Refused."""
        _refuse("download all images and labels")


def _refuse(what: str) -> NoReturn:
    raise HTTPException(403, f"The label server does not let anybody {what}.")
