"""``segfed train``: a site's model goes on learning from the site's own approved labels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segfed.cli import console
from segfed.sites import load_site

if TYPE_CHECKING:
    from segfed.study.fine_tune import FineTuned
    from segfed.study.resumable import TrainingState


def train(
    folder: console.SiteFolder,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Model folder to start from; default: the site's published model."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="About how long to train; default: 30."),
    ] = None,
    arm: Annotated[
        Literal["manual", "assisted", "mixed"],
        typer.Option("--arm", help="Labels to train on; mixed: the newest of each case."),
    ] = "mixed",
    include_submitted: Annotated[
        bool, typer.Option("--include-submitted", help="Use labels that nobody approved, too.")
    ] = False,
    split: Annotated[
        Literal["train", "warmup"],
        typer.Option("--split", help="Cases to train on; warmup: none that a study's readers see."),
    ] = "train",
    clicks: Annotated[
        str | None,
        typer.Option(
            "--clicks",
            metavar="LABEL",
            help="Train a second model that corrects this label where a reader clicks.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the new model.")] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Let the site's label server propose with it.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of patches and augmentation.")] = 0,
    device: console.Device = "auto",
    as_json: console.AsJson = False,
) -> None:
    """Train on a site's approved labels; keeps the model only if it validates better."""
    if steps is not None and minutes is not None:
        raise typer.BadParameter("Give --steps or --minutes, not both.")
    if out is None and not publish:
        raise typer.BadParameter("Say where the model goes: --out FOLDER, --publish, or both.")
    from segfed.engine import select_device
    from segfed.study.fine_tune import fine_tune
    from segfed.study.own_labels import DEFAULT_BUDGET, Choice
    from segfed.study.resumable import Budget

    seconds = None if minutes is None else 60 * minutes
    site = load_site(folder)
    with console.progress_bars() as progress:
        bar = progress.add_task(f"train {site.name}", total=None, note="")

        def show(state: TrainingState) -> None:
            progress.update(
                bar, completed=state.step, total=state.total_steps, note=_figures(state)
            )

        result = fine_tune(
            site,
            Choice(
                arm=arm,
                split=split,
                include_submitted=include_submitted,
                clicks=clicks,
                budget=Budget(steps, seconds) if steps or seconds else DEFAULT_BUDGET,
                seed=seed,
            ),
            start=start,
            device=select_device(device),
            out=out,
            publish_at_site=publish,
            on_state=show,
        )
    if as_json:
        content = asdict(result) | {"state": result.state.model_dump(mode="json")}
        content["published"] = result.published and str(result.published)
        console.print_json(content)
        return
    summary = _summary(result, site_name=site.name, out=out, clicks=clicks)
    console.out.print(summary, soft_wrap=True)


def _figures(state: TrainingState) -> str:
    """Validation Dice before and so far, where it was measured."""
    values = {"start": state.start_dice, "best": state.best_dice}
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None)


def _summary(result: FineTuned, *, site_name: str, out: Path | None, clicks: str | None) -> str:
    """What was trained on, what it brought, and where the model is."""
    state = result.state
    origins = ", ".join(f"{count} {origin}" for origin, count in result.n_of_origin.items())
    start = f"model {result.parent[:12]}" if result.parent else "random weights"
    trained = f"{state.total_steps} steps from {start} on {result.n_train} cases ({origins})."
    measured = (
        f"Validation Dice{f' of {clicks} after two simulated clicks' if clicks else ''} on "
        f"{result.n_validation} cases: {_figures(state)}."
        if state.best_dice is not None
        else "No validation case has an approved label, so nothing says whether it is any better."
    )
    if not result.is_better:
        place = "It is no better than the model it started from: nothing was written or published."
    else:
        name = f"model {result.sha256 and result.sha256[:12]}"
        kept = f"{name[0].upper()}{name[1:]}: {out}" if out else ""
        use = f"helps with clicks on {clicks} by" if clicks else "proposes with"
        served = f"Site {site_name} now {use} {name}." if result.published else ""
        place = " ".join(filter(None, (served, kept)))
    return f"{trained}\n{measured}\n{place}"
