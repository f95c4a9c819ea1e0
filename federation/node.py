"""Flower's node for a site, without the waits that Flower 1.32.1 has no setting for.

Its node looks for messages every 3 s and its executor for work every second, and each message is
relayed by a new Python process that imports Flower for a second. Over the two exchanges of a round
that is most of what a short round takes. Here they look more often, and relays fork from a process
that has done the imports; all else is Flower's own programs, with their own command lines:

    python -P federation/node.py flower-supernode --superlink ...

This file runs by its path and imports nothing of segfed, so that a relay imports all of that from
the study's bundle, as Flower means it.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from flwr.supercore.cli import flower_superexec
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import subprocess_executor
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode, flwr_clientapp

WAIT_SHARE, LONGEST_WAIT_SECONDS = 0.2, 0.5
"""A wait takes this share of Flower's own, but no longer than this; less, where only programs of
this machine are asked."""

_IMPORTED_ONCE = ["flwr.supercore.cli", "flwr.supernode.cli", "numpy", "pydantic"]

_relays = multiprocessing.get_context("forkserver")
_relays.set_forkserver_preload(_IMPORTED_ONCE)


def _sleep(seconds: float) -> None:
    time.sleep(min(WAIT_SHARE * seconds, LONGEST_WAIT_SECONDS))


def _start_executor(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-P", __file__, *command])


def _start_relay(command: Sequence[str]) -> None:
    # A daemon: it ends with the executor, as the relays that Flower starts do.
    _relays.Process(target=_relay, args=(command,), daemon=True).start()


def _relay(command: Sequence[str]) -> None:
    sys.argv[:] = command
    flwr_clientapp()


def main() -> None:
    """Run the program that the command line names, as Flower would."""
    waits = SimpleNamespace(sleep=_sleep)
    vars(start_client_internal).update(
        time=waits, subprocess=SimpleNamespace(Popen=_start_executor)
    )
    vars(run_superexec).update(time=waits)
    vars(subprocess_executor).update(subprocess=SimpleNamespace(Popen=_start_relay))
    programs = {"flower-supernode": flower_supernode, "flower-superexec": flower_superexec}
    del sys.argv[0]
    programs[Path(sys.argv[0]).name]()


if __name__ == "__main__":
    main()
