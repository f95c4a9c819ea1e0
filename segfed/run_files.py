"""The files of a federated run, for everybody who reads them; its server alone writes them."""

from __future__ import annotations

from pathlib import Path

from segfed.errors import ConfigError
from segfed.protocol import FederationState, RoundRecord

STATE_FILE = "state.json"
METRICS_FILE = "metrics.jsonl"

_ADVICE = "Restore the run's folder from a backup, or delete it to begin anew."


def read_state(run_folder: Path) -> FederationState:
    """How far a run came; its file is there once the first round is done.

    Raises:
        ConfigError: If the file is missing or damaged.
    """
    path = run_folder / STATE_FILE
    try:
        return FederationState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"No state of a federated run at {path}. Check the path, or wait for its first round."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}); expected how far the run came, as "
            f"the server wrote it. {_ADVICE}"
        ) from error


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
            f"the server wrote it. {_ADVICE}"
        ) from error
    if len(records) < state.rounds_done:
        raise ConfigError(
            f"{path} holds {len(records)} rounds; expected {state.rounds_done}, as {STATE_FILE} "
            f"counts. {_ADVICE}"
        )
    return records
