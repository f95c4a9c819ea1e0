"""What uvicorn serves: MONAI Label behind the gate, each request in a thread."""

from __future__ import annotations

from pathlib import Path

from monailabel.app import app as monai_label
from monailabel.config import settings

from label_app.gate import guarded
from label_app.threads import Threads

app = guarded(
    Threads(monai_label),
    site_folder=Path(settings.MONAI_LABEL_STUDIES).parent,
    conf=settings.MONAI_LABEL_APP_CONF,
)
