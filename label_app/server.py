"""What uvicorn serves: MONAI Label behind the gate, each request in a thread."""

from __future__ import annotations

from monailabel.app import app as monai_label

from label_app.gate import Gate
from label_app.threads import Threads

app = Gate(Threads(monai_label))
