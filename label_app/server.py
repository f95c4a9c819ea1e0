"""What uvicorn serves: MONAI Label behind the gate."""

from __future__ import annotations

from monailabel.app import app as monai_label

from label_app.gate import Gate

app = Gate(monai_label)
