"""The Flower server of a study: rounds from where an earlier process stopped to the last one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from federation.run_folder import (
    end_run,
    finished_rounds,
    is_finished,
    read_model,
    read_weights,
    save_round,
)
from federation.server_optimizer import GlobalModel
from federation.strategy import CheckedRounds
from segfed.errors import BudgetError, FederationError
from segfed.protocol import MANIFEST_KEY, Manifest, RoundRecord, record_heads

logger = logging.getLogger(__name__)


def make_server_app(
    manifest: Manifest,
    *,
    site_names: Mapping[int, str],
    initial_weights: Path,
    out: Path,
    on_round: Callable[[RoundRecord], None],
    sites_may_change: bool = False,
) -> ServerApp:
    """A Flower server that trains one study.

    Args:
        manifest: The study; Flower's run config must hold its hash.
        site_names: The server's table of node id and site.
        initial_weights: Safetensors from which round 1 starts.
        out: The run folder; a run that was cut short there goes on after its last finished round.
        on_round: Called with every round's record, those of an earlier process first.
        sites_may_change: Go on with a run that other sites began: hospitals come and go.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        found = context.run_config.get(MANIFEST_KEY)
        if found != manifest.sha256:
            raise FederationError(
                f"The run was submitted for the manifest {found}, but the server holds "
                f"{manifest.sha256}. Submit the study again."
            )
        sites = None if sites_may_change else site_names.values()
        records = list(finished_rounds(out, manifest, sites=sites))
        for record in records:
            on_round(record)
        n_done = len(records)
        if is_finished(manifest, records):
            return
        if n_done:
            logger.info("Going on after round %d of %d.", n_done, manifest.rounds)
            model = read_model(out, manifest, after_round=n_done)
        else:
            model = GlobalModel(read_weights(initial_weights))
        rounds = CheckedRounds(grid, manifest, site_names=site_names, spool=out / "spool")
        while not is_finished(manifest, records):
            head = record_heads(records)[-1]
            try:
                model, record = rounds.run(len(records) + 1, model, records, server_head=head)
            except BudgetError as error:
                if not records:
                    raise
                end_run(out, manifest, records=records, reason=str(error))
                logger.warning("%s", error)
                return
            records.append(record)
            save_round(out, manifest, records=records, model=model)
            on_round(record)
        if len(records) < manifest.rounds:
            logger.info("Stopped after round %d: validation no longer improved.", len(records))

    return app
