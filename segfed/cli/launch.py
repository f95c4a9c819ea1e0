"""Starts the Flower federation in a process of its own, so that segfed never imports Flower."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from segfed.errors import FederationError
from segfed.files import write_text
from segfed.processes import die_with_parent
from segfed.protocol import FederationJob, FederationState, RoundRecord
from segfed.run_files import read_state


def launch_federation(
    job: FederationJob, *, on_round: Callable[[RoundRecord], None]
) -> FederationState:
    """Simulate one federated training in a child process and follow its rounds.

    A child whose parent was killed ends with it on Linux; elsewhere at its next round, when its
    output finds no reader.

    Args:
        job: Manifest, site folders, initial weights and run folder.
        on_round: Called with each finished round's record, in order.

    Returns:
        The final state, as the run folder's ``state.json`` holds it.

    Raises:
        FederationError: If the process fails, quoting the end of its log, which lies in the run
            folder as ``federation.log``; or if it writes anything but records of rounds.
    """
    job_path, log_path = job.out / "job.json", job.out / "federation.log"
    write_text(job_path, job.model_dump_json(indent=2) + "\n")
    command = [sys.executable, "-m", "federation.simulation", str(job_path)]
    with (
        log_path.open("ab") as log,
        subprocess.Popen(
            command,
            env=_environment(os.environ, threads=job.threads),
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=die_with_parent(),
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                on_round(_read_record(line, log_path))
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise FederationError(_failure(process.returncode, log_path))
    return read_state(job.out)


def _environment(inherited: Mapping[str, str], *, threads: int | None) -> dict[str, str]:
    """This process's environment, with the number of threads that torch may use."""
    return dict(inherited) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def _read_record(line: bytes, log_path: Path) -> RoundRecord:
    """The round that a line of the child's output tells of."""
    try:
        return RoundRecord.model_validate_json(line)
    except ValidationError:
        raise FederationError(
            f"The federation wrote {line[:80]!r}, expected the record of a round. Its log "
            f"{log_path} may say why. Correct that and run the command again: finished rounds are "
            "kept."
        ) from None


def _failure(code: int, log_path: Path) -> str:
    """One paragraph: how the process ended, its last words, and where the rest is."""
    last_words = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    return (
        f"The federation ended with exit code {code} instead of 0. Its log {log_path} ends: "
        f"{' / '.join(last_words) or '(empty)'}. Correct that and run the command again: "
        "finished rounds are kept."
    )
