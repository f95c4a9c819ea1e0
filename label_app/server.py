"""What uvicorn serves: our own requests and MONAI Label's, behind the gate."""

from __future__ import annotations

from fastapi import FastAPI
from monailabel.app import app as monai_label

from label_app import channels, training
from label_app.gate import Gate

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

app = Gate(_own)
