"""What uvicorn serves: our own requests and MONAI Label's, each in a thread, behind the gate."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from monailabel.app import app as monai_label
from monailabel.config import settings

from label_app import channels, training
from label_app.gate import guarded
from label_app.threads import Threads


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """MONAI Label's own start and end, which a mounted app's are not called for."""
    async with monai_label.router.lifespan_context(app):
        _forget_the_start()
        yield


def _forget_the_start() -> None:
    """Take what was imported so far out of the garbage collector's care.

    That is 600,000 objects, which live until the end: to look through them takes half a second of
    a processor, several times a minute under load, in which no request is answered.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # Python waits for a quarter more old objects than this finds: now nearly none


_own = FastAPI(
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    lifespan=_lifespan,
)
_own.include_router(training.router)
_own.include_router(channels.router)
_own.mount("", monai_label)

app = guarded(
    Threads(_own),
    site_folder=Path(settings.MONAI_LABEL_STUDIES).parent,
    conf=settings.MONAI_LABEL_APP_CONF,
)
