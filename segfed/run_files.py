"""The files of a federated run, for everybody who reads them; its server alone writes them."""

from __future__ import annotations

from pathlib import Path

from segfed.errors import ConfigError
from segfed.protocol import FederationState, RoundRecord
from segfed.settings import load_json

STATE_FILE = "state.json"
METRICS_FILE = "metrics.jsonl"


def read_state(run_folder: Path) -> FederationState:
    """How far a run came; its file is there once the first round is done.

    Raises:
        ConfigError: If the file is missing or damaged.
    """
    return load_json(run_folder / STATE_FILE, FederationState, kind="state of a federated run")


def read_rounds(run_folder: Path, state: FederationState) -> tuple[RoundRecord, ...]:
    """The records of the rounds that a state counts, oldest first.

    The file may hold one more, because the server writes the state last.

    Args:
        run_folder: The run.
        state: Of the run, read before.

    Raises:
        ConfigError: If the file is missing or damaged, or ends before the last round.
    """
    path = run_folder / METRICS_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[: state.rounds_done]
        records = tuple(map(RoundRecord.model_validate_json, lines))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}); expected a line for each round, as "
            "the server wrote it. Restore the run's folder, or delete it to begin anew."
        ) from error
    if len(records) < state.rounds_done:
        raise ConfigError(
            f"{path} holds {len(records)} rounds; expected {state.rounds_done}, as {STATE_FILE} "
            "counts. Restore both files from one backup, or delete the folder to begin anew."
        )
    return records
