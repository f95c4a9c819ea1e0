"""``segfed privacy``: what a study's models give away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from segfed.cli import console

if TYPE_CHECKING:
    from segfed.study import AttackRecord

app = typer.Typer(no_args_is_help=True, help="What a study's models give away about patients.")


@app.callback()
def _group() -> None:
    """Keep ``attack`` a command of its own while it is the only one."""


@app.command("attack")
def attack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")],
    reconstruct: Annotated[
        bool,
        typer.Option(
            "--reconstruct/--no-reconstruct",
            help="Also reconstruct patches from updates: minutes on a CPU.",
        ),
    ] = True,
    repeats: Annotated[
        int, typer.Option("--repeats", min=2, help="Patches to reconstruct of each exposure.")
    ] = 5,
    iterations: Annotated[
        int, typer.Option("--iterations", min=1, help="Steps of each reconstruction.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of resampling and patches.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print attacks.json.")] = False,
) -> None:
    """Attack the models of a study: who was trained on, and what updates show of images."""
    from segfed.attacks import InversionSettings
    from segfed.engine import select_device
    from segfed.study import ATTACKS_FILE, attack_study

    settings = InversionSettings(repeats=repeats, iterations=iterations, seed=seed)
    with console.progress_bars() as progress:
        bars = {
            what: progress.add_task(what, total=None, note="")
            for what in ("membership", *(("reconstruction",) if reconstruct else ()))
        }
        record = attack_study(
            run,
            device=select_device(device),
            seed=seed,
            inversion=settings if reconstruct else None,
            on_progress=lambda what, done, total: progress.update(
                bars[what], completed=done, total=total
            ),
        )
    if as_json:
        console.print_json(record.model_dump(mode="json"))
        return
    console.out.print(_memberships(record))
    if record.inversion:
        console.out.print(_reconstructions(record))
    if record.not_attacked:
        console.out.print(
            f"Not attacked, for too few patients: {'; '.join(record.not_attacked)}.",
            soft_wrap=True,
            highlight=False,
        )
    console.out.print(
        f"Guessing gives 0; an interval that includes 0 shows no leak, and proves none absent. "
        f"Written to {run / ATTACKS_FILE}; `segfed report {run}` shows it.",
        soft_wrap=True,
        highlight=False,
    )


def _memberships(record: AttackRecord) -> Table:
    """A row for each attack on each model."""
    table = Table(
        "model", "attack by", "advantage (95 % interval)", "AUC (95 % interval)", "patients",
        box=None, title="Was a patient trained on?", title_justify="left",
    )  # fmt: skip
    for row in record.membership:
        site = f" {row.train_site}" if row.regime == "local" else ""
        result = row.result
        table.add_row(
            f"{row.regime}{site} {row.arm}, seed {row.seed}",
            row.attack,
            _interval(result.advantage, result.advantage_low, result.advantage_high, "+.2f"),
            _interval(result.auc, result.auc_low, result.auc_high, ".2f"),
            f"{result.n_members} in, {result.n_others} out",
        )
    return table


def _reconstructions(record: AttackRecord) -> Table:
    """A row for each exposure of each model."""
    table = Table(
        "from", "update", "correlation", "by chance", "advantage (95 % interval)", "PSNR (dB)",
        box=None, title="What does an update show of a patch?", title_justify="left",
    )  # fmt: skip
    for row in record.inversion:
        result = row.result
        table.add_row(
            row.model,
            result.exposure,
            f"{result.correlation:.2f}",
            f"{result.chance:.2f}",
            _interval(result.advantage, result.advantage_low, result.advantage_high, "+.2f"),
            f"{result.psnr_db:.1f} ({result.chance_psnr_db:.1f} by chance)",
        )
    return table


def _interval(mean: float, low: float, high: float, form: str) -> str:
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"
