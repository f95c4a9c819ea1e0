"""A site's script in ``nvflare_rounds.py``: it sends back what it gets, and notes when it came."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nvflare.client as flare

flare.init()
times = Path(sys.argv[1]) / flare.get_site_name()
while flare.is_running():
    model = flare.receive()
    with times.open("a") as file:
        file.write(f"{time.time()}\n")
    flare.send(flare.FLModel(params=model.params, metrics={"accuracy": 0.0}))
