"""What uvicorn serves: MONAI Label behind the gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from monailabel.app import app as monai_label
from monailabel.config import settings
from starlette.types import ASGIApp

from label_app.gate import Gate
from label_app.login import Desk
from label_app.reader import Reader


def guarded(app: ASGIApp, *, studies: Path, conf: Mapping[str, str]) -> Gate:
    """An app behind the gate.

    Args:
        app: MONAI Label.
        studies: The ``images`` folder of a site.
        conf: ``reader`` names the one reader of a server on their own machine; without it
            readers log in. ``public_names`` lists host names, with blanks between them.
    """
    name = conf.get("reader")
    door = Reader(name, "admin") if name else Desk(studies.parent)
    return Gate(app, door, public_names=conf.get("public_names", "").split())


app = guarded(
    monai_label, studies=Path(settings.MONAI_LABEL_STUDIES), conf=settings.MONAI_LABEL_APP_CONF
)
