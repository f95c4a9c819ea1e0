"""A run on disk: weights of the best and the last round, one line a round, and how far it came.

Of the files of a round, ``state.json`` is written last and decides: a process that is
killed before leaves the run as it was after the round before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean

from safetensors import SafetensorError
from safetensors.numpy import load, save

from federation.messages import Weights
from federation.server_optimizer import GlobalModel
from federation.updates import is_dice
from segfed.errors import FederationError, WeightsError
from segfed.files import write_bytes, write_text
from segfed.protocol import FederationState, Manifest, RoundRecord
from segfed.run_files import METRICS_FILE, STATE_FILE, read_rounds, read_state


def finished_rounds(
    out: Path, manifest: Manifest, *, sites: Collection[str] | None
) -> tuple[RoundRecord, ...]:
    """The rounds that an earlier process finished here; none in a new folder.

    Args:
        out: The run folder.
        manifest: The study.
        sites: Who takes part, who must have then, too; None where sites come and go.

    Raises:
        FederationError: If the folder holds the run of another manifest or of other sites.
        ConfigError: If its files are damaged.
    """
    if not (out / STATE_FILE).exists():
        return ()
    state = read_state(out)
    records = read_rounds(out, state)
    names = set(records[-1].sites) if records else set()
    expected = names if sites is None or not records else set(sites)
    if state.manifest_sha256 != manifest.sha256 or names != expected:
        raise FederationError(
            f"{out} holds a run of study {state.manifest_sha256[:12]} with sites "
            f"{', '.join(sorted(names))}; this is study {manifest.sha256[:12]} with sites "
            f"{', '.join(sorted(expected))}. Choose another folder, or delete this one."
        )
    return records


def save_round(
    out: Path, manifest: Manifest, *, records: Sequence[RoundRecord], model: GlobalModel
) -> FederationState:
    """Write the last round of a run; returns the state that is now on disk.

    Args:
        out: The run folder.
        manifest: The study.
        records: All rounds so far, the new one last.
        model: The global model after it, with what the server remembers.
    """
    last = records[-1].round
    state = _state(manifest, records)
    write_bytes(weights_path(out, last), save(model.weights))
    if model.memory:
        write_bytes(memory_path(out, last), save(model.memory))
    lines = "".join(record.model_dump_json() + "\n" for record in records)
    write_text(out / METRICS_FILE, lines)
    write_text(out / STATE_FILE, state.model_dump_json(indent=2) + "\n")
    kept = {
        weights_path(out, last),
        weights_path(out, state.best_round or last),
        memory_path(out, last),
    }
    for path in (*out.glob("round_*.safetensors"), *out.glob("memory_*.safetensors")):
        if path not in kept:
            path.unlink()
    return state


def end_run(
    out: Path, manifest: Manifest, *, records: Sequence[RoundRecord], reason: str
) -> FederationState:
    """Note that no round follows the saved ones; returns the state that is now on disk.

    Args:
        out: The run folder.
        manifest: The study.
        records: All rounds, as they were saved.
        reason: Why, in a sentence.
    """
    state = _state(manifest, records).model_copy(update={"finished": True, "ended": reason})
    write_text(out / STATE_FILE, state.model_dump_json(indent=2) + "\n")
    return state


def _state(manifest: Manifest, records: Sequence[RoundRecord]) -> FederationState:
    """How far a run is with these rounds."""
    return FederationState(
        manifest_sha256=manifest.sha256,
        rounds_done=records[-1].round,
        best_round=best_round(records),
        finished=is_finished(manifest, records),
    )


def read_model(out: Path, manifest: Manifest, *, after_round: int) -> GlobalModel:
    """The global model after a saved round, with what the server remembers.

    Raises:
        WeightsError: If a file is missing or damaged.
    """
    remembers = manifest.federation.remembers
    return GlobalModel(
        read_weights(weights_path(out, after_round)),
        read_weights(memory_path(out, after_round)) if remembers else {},
    )


def read_weights(path: Path) -> Weights:
    """Arrays of a safetensors file, which training can average.

    Raises:
        WeightsError: If the file is missing or damaged, or holds whole numbers.
    """
    try:
        weights = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({type(error).__name__}); expected safetensors. "
            "Make the initial weights again, or delete the run folder to begin anew."
        ) from error
    whole = sorted(name for name, array in weights.items() if array.dtype.kind != "f")
    if whole or not weights:
        raise WeightsError(
            f"{path} holds {len(weights)} arrays, of which {len(whole)} are not of a float type; "
            "expected float weights, because a mean of counters has no meaning. Use a network "
            "without running statistics."
        )
    return {name: weights[name] for name in sorted(weights)}


def is_finished(manifest: Manifest, records: Sequence[RoundRecord]) -> bool:
    """Whether a run with these rounds is over: all done, or none better for as long as agreed."""
    if not records:
        return False
    last, patience = records[-1].round, manifest.federation.early_stop_rounds
    no_longer_better = patience is not None and last - best_round(records) >= patience
    return last == manifest.rounds or no_longer_better


def best_round(records: Sequence[RoundRecord]) -> int:
    """The round with the highest validation Dice, the earlier of two equals.

    A round replaces the best one before it if it has the higher mean over the sites and structures
    that both scored: means over different ones do not compare, and a round in which a hard site
    failed would look best. The last round where none was scored.
    """
    best: RoundRecord | None = None
    for record in records:
        if record.validation_dice is not None and (best is None or _is_better(record, best)):
            best = record
    return (best or records[-1]).round


def _is_better(record: RoundRecord, other: RoundRecord) -> bool:
    """Whether a round beats another on what both scored."""
    both = _scored(record) & _scored(other)
    return bool(both) and _mean_dice(record, both) > _mean_dice(other, both)


def _scored(record: RoundRecord) -> set[tuple[str, str]]:
    """The (site, Dice name) pairs that have a value in a round."""
    return {
        (site, name)
        for site, values in record.sites.items()
        for name, value in values.items()
        if is_dice(name) and value is not None
    }


def _mean_dice(record: RoundRecord, pairs: Collection[tuple[str, str]]) -> float:
    """Mean over sites of each site's mean over structures."""
    by_site: dict[str, list[float]] = {}
    for site, name in sorted(pairs):
        by_site.setdefault(site, []).append(record.sites[site][name] or 0.0)
    return fmean(fmean(values) for values in by_site.values())


def weights_path(out: Path, round_number: int) -> Path:
    """Where the global model after a round lies."""
    return out / f"round_{round_number:03d}.safetensors"


def memory_path(out: Path, round_number: int) -> Path:
    """Where the momentum and second moments of the server after a round lie."""
    return out / f"memory_{round_number:03d}.safetensors"
