"""The Flower server of a study: rounds from where an earlier process stopped to the last one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from safetensors import SafetensorError
from safetensors.numpy import load

from federation.messages import Weights, read_arrays, write_arrays
from federation.run_folder import finished_rounds, save_round, weights_path
from federation.strategy import CheckedAveraging
from segfed.errors import FederationError, WeightsError
from segfed.protocol import Manifest, RoundRecord

logger = logging.getLogger(__name__)


def make_server_app(
    manifest: Manifest,
    *,
    site_names: Mapping[int, str],
    initial_weights: Path,
    out: Path,
    on_round: Callable[[RoundRecord], None],
) -> ServerApp:
    """A Flower server that trains one study.

    Args:
        manifest: The study; Flower's run config must hold its hash.
        site_names: The server's table of node id and site.
        initial_weights: Safetensors from which round 1 starts.
        out: The run folder; a run that was cut short there goes on after its last finished round.
        on_round: Called with every round's record, those of an earlier process first.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        found = context.run_config.get("manifest-sha256")
        if found != manifest.sha256:
            raise FederationError(
                f"The run was submitted for the manifest {found}, but the server holds "
                f"{manifest.sha256}. Submit the study again."
            )
        records = list(finished_rounds(out, manifest, sites=site_names.values()))
        for record in records:
            on_round(record)
        n_done = len(records)
        if n_done == manifest.rounds:
            return
        if n_done:
            logger.info("Going on after round %d of %d.", n_done, manifest.rounds)
        strategy = CheckedAveraging(
            site_names=site_names,
            manifest_sha256=manifest.sha256,
            structures=manifest.plan.get("structures", ()),
            rounds_done=n_done,
        )

        def keep(server_round: int, arrays: ArrayRecord) -> None:
            if server_round == 0:  # Flower also calls before the first round
                return
            records.append(strategy.round_record(server_round))
            save_round(out, manifest, records=records, weights=read_arrays(arrays))
            on_round(records[-1])

        start = weights_path(out, n_done) if n_done else initial_weights
        strategy.start(
            grid,
            write_arrays(_read_weights(start)),
            num_rounds=manifest.rounds - n_done,
            evaluate_fn=keep,
        )

    return app


def _read_weights(path: Path) -> Weights:
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
