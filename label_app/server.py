"""What uvicorn serves: our own requests and MONAI Label's, each in a thread, behind the gate."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from monailabel.app import app as monai_label
from monailabel.config import settings

from label_app import channels, training
from label_app.gate import guarded
from label_app.threads import Threads

_own = FastAPI(
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    # A mounted app's start and end are not called.
    lifespan=monai_label.router.lifespan_context,
)
_own.include_router(training.router)
_own.include_router(channels.router)
_own.mount("", monai_label)

app = guarded(
    Threads(_own),
    site_folder=Path(settings.MONAI_LABEL_STUDIES).parent,
    conf=settings.MONAI_LABEL_APP_CONF,
)
