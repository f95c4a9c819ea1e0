"""Sends a signed study to the federation's server, and follows it to its end."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from segfed.cli import flower
from segfed.cli.federation_code import write_app
from segfed.cli.kit import OWNER_FILE, expiry_warning, load_server_kit
from segfed.cli.progress import StudyProgress, read_progress
from segfed.cli.server import flower_home, register_sites
from segfed.errors import FederationError
from segfed.files import write_text
from segfed.protocol import Manifest, RoundRecord, ServerJob, StudyFolder

if TYPE_CHECKING:
    from segfed.agent import SignedManifest

_LOOK_SECONDS = 1.0


def submit(
    kit_folder: Path, signed: SignedManifest, *, resume: bool, say: Callable[[str], None]
) -> StudyFolder:
    """Start a study at the server of this machine, or go on with one that was cut short.

    Args:
        kit_folder: The server's kit; ``segfed federate serve`` must run it.
        signed: The study.
        resume: Go on after the last finished round.
        say: Is told of a site whose key is refused, and of a certificate that expires soon.

    Returns:
        Where the run lies.

    Raises:
        ConfigError: If there is no kit, or no owner's key in it.
        FederationError: If the kit's owner did not sign the study; if it runs, is done or was
            begun; if it was not, and is to be resumed; if the server does not answer.
    """
    from segfed.agent import is_signed_by
    from segfed.engine import build_network, read_plan, write_weights

    kit, manifest = load_server_kit(kit_folder), signed.manifest
    if not is_signed_by(signed, kit_folder / OWNER_FILE):
        raise FederationError(
            f"The manifest of study {manifest.study!r} is not as the owner of "
            f"{kit_folder / OWNER_FILE} signed it; expected that signature, because the sites "
            "trust that owner. Ask the owner for the manifest again, or provision with the key "
            "of the one who signed this."
        )
    if warning := expiry_warning(kit, now=datetime.now(UTC)):
        say(warning)
    folder = StudyFolder.of(kit_folder, manifest.sha256)
    _check_state(folder, current_progress(kit_folder, folder), resume=resume)
    with tempfile.TemporaryDirectory(prefix="segfed-") as temporary:
        app = write_app(Path(temporary), manifest)
        sites = register_sites(kit_folder, kit, say=say)
        _check_number(kit_folder, len(sites), manifest)
        if not folder.start.exists():
            network = build_network(read_plan(manifest.plan), seed=manifest.seed)
            write_weights(folder.start, network.state_dict())
        job = ServerJob(manifest=manifest, sites=sites)
        write_text(folder.job, job.model_dump_json(indent=2) + "\n")
        folder.problem.unlink(missing_ok=True)
        run_id = flower.start_run(flower_home(kit_folder), app)
    write_text(folder.run_id, f"{run_id}\n")
    return folder


def current_progress(kit_folder: Path, folder: StudyFolder) -> StudyProgress:
    """How far a study is.

    Its own files tell, but for a run whose process never began: of that Flower knows whether it
    is still to begin.
    """
    progress = read_progress(folder)
    if progress.state == "starting" and _is_over(kit_folder, folder):
        return dataclasses.replace(progress, state="stopped")
    return progress


def follow(
    kit_folder: Path, folder: StudyFolder, *, on_round: Callable[[RoundRecord], None]
) -> StudyProgress:
    """Wait for the end of a study that was submitted.

    Args:
        kit_folder: The server's kit.
        folder: The study.
        on_round: Is told of every round, those of earlier processes first.

    Returns:
        How it ended, well.

    Raises:
        FederationError: If it failed, with the reason.
    """
    told = 0
    while True:
        progress = current_progress(kit_folder, folder)
        for record in progress.records[told:]:
            on_round(record)
        told = len(progress.records)
        if progress.state == "finished":
            return progress
        if progress.state == "stopped":
            raise FederationError(_failure(kit_folder, folder, progress))
        time.sleep(_LOOK_SECONDS)


def _check_number(kit_folder: Path, n_sites: int, manifest: Manifest) -> None:
    """Refuse a study that has too few sites, or too many for its threshold."""
    fewest, threshold = manifest.federation.minimum_sites, manifest.privacy.threshold
    if n_sites < fewest:
        raise FederationError(
            f"The kit {kit_folder} names {n_sites} sites, expected at least the {fewest} that the "
            "study asks for. Provision the kit with more sites."
        )
    if threshold is not None and not threshold <= n_sites < 2 * threshold:
        raise FederationError(
            f"The kit {kit_folder} names {n_sites} sites, expected {threshold} to "
            f"{2 * threshold - 1}: a sum is over at least {threshold}, the study's threshold, and "
            "the sites would refuse one that is not more than half of them. Sign the study with "
            f"a threshold of {n_sites // 2 + 1} to {n_sites}, or provision the kit with other "
            "sites."
        )


def _is_over(kit_folder: Path, folder: StudyFolder) -> bool:
    """Whether the last run has ended for Flower: a server that does not answer has lost it."""
    if not folder.run_id.exists():
        return True  # the submission was cut short
    run_id = int(folder.run_id.read_text(encoding="utf-8"))
    try:
        return flower.run_state(flower_home(kit_folder), run_id).startswith("finished")
    except FederationError:
        return True


def _check_state(folder: StudyFolder, progress: StudyProgress, *, resume: bool) -> None:
    """Refuse to begin what was begun, or to go on with what was not."""
    if progress.state in {"starting", "running"}:
        raise FederationError(
            f"The study in {folder.root} runs already; expected one that does not. See how it "
            "goes with `segfed federate status`."
        )
    if progress.state == "finished":
        raise FederationError(
            f"The study in {folder.root} is finished; expected one that is not. Its weights lie "
            f"in {folder.run}. For another run, sign the study with another seed."
        )
    if resume and not folder.job.exists():
        raise FederationError(
            f"There is nothing in {folder.root} to go on with; expected an earlier run of the "
            "study. Submit it without --resume."
        )
    if progress.records and not resume:
        raise FederationError(
            f"{folder.root} holds {len(progress.records)} rounds of the study that were cut "
            "short; expected none. Go on with --resume, or remove the folder to begin anew."
        )


def _failure(kit_folder: Path, folder: StudyFolder, progress: StudyProgress) -> str:
    """One paragraph: what happened, and how to go on."""
    said = progress.problem or (
        "The server's process is gone without a word; expected it to run to the last round. "
        f"See {kit_folder / 'logs' / 'superlink.log'}."
    )
    return (
        f"{said} {len(progress.records)} of {progress.rounds} rounds are kept in {folder.run}: go "
        "on with `segfed federate submit --resume`."
    )
