"""``segfed model``: trained models, and where label servers find them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.errors import ConfigError
from segfed.sites import load_site

PROGRAM_FILE = "models/model.pt2"
ONNX_FILE = "models/model.onnx"

app = typer.Typer(no_args_is_help=True, help="Published models: what a site's label server uses.")


@app.command("list")
def list_(folder: console.SiteFolder, as_json: console.AsJson = False) -> None:
    """List the models published at a site; arrows mark those that the label server uses."""
    from segfed.study import current_model, published_models

    site = load_site(folder)
    current = {current_model(site), current_model(site, clicks=True)}
    models = published_models(site)
    if as_json:
        rows = [
            {
                "folder": str(model.folder),
                "sha256": model.sha256,
                "current": model.folder in current,
                "lineage": model.lineage.model_dump(mode="json"),
            }
            for model in models
        ]
        console.print_json(rows)
        return
    table = Table("", "model", "study", "labels", "seed", "round", "sites", box=None)
    for model in models:
        lineage = model.lineage
        table.add_row(
            "→" if model.folder in current else "",
            model.sha256[:12],
            lineage.study,
            lineage.arm,
            str(lineage.seed),
            str(lineage.round or ""),
            ", ".join(lineage.sites),
        )
    console.out.print(table if models else f"Site {site.name} has no published model yet.")


@app.command("publish")
def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")],
    folder: console.SiteFolder,
) -> None:
    """Put a study's global model where the site's label server loads it."""
    from segfed.study import publish_run

    site = load_site(folder)
    published = publish_run(run, site)
    console.out.print(
        f"Site {site.name} now proposes with {published.name}: {published}", soft_wrap=True
    )


@app.command("export")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model bundle.")],
    pt2: Annotated[
        bool, typer.Option("--pt2", help=f"Add {PROGRAM_FILE}, which PyTorch runs without segfed.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help=f"Add {ONNX_FILE}; needs `pip install 'segfed\\[onnx]'`.")
    ] = False,
) -> None:
    """Write a study's global model as a MONAI bundle, for `segfed predict` and others."""
    from segfed.engine import export_onnx, export_program, load_bundle
    from segfed.study import export_model, shared_model

    sha256 = export_model(run, shared_model(run), out)
    console.out.print(f"Model {sha256[:12]}: {out}", soft_wrap=True)
    wanted = {PROGRAM_FILE: export_program} if pt2 else {}
    wanted |= {ONNX_FILE: export_onnx} if onnx else {}
    for name, export_to in wanted.items():
        difference = export_to(load_bundle(out), out / name)
        console.out.print(
            f"{out / name}: logits within {difference:.1g} of the network's", soft_wrap=True
        )


@app.command("card")
def card(
    folder: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of a bundle, or of a site: its own model."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the card, the weights' hash, the lineage.")
    ] = False,
) -> None:
    """Print a published model's card, after a check that it belongs to the weights beside it."""
    from segfed.engine import bundle_card, load_bundle
    from segfed.sites.site import SITE_FILE
    from segfed.study import current_model

    if (folder / SITE_FILE).exists():
        site = load_site(folder)
        current = current_model(site)
        if current is None:
            raise ConfigError(
                f"Site {site.name} has no published model; expected one whose card can be shown. "
                "Publish one with `segfed model publish RUN SITE`, or name a bundle."
            )
        folder = current
    model, text = load_bundle(folder), bundle_card(folder)
    if as_json:
        lineage = model.lineage.model_dump(mode="json")
        console.print_json({"card": text, "sha256": model.sha256, "lineage": lineage})
        return
    console.out.print(text, markup=False, highlight=False, soft_wrap=True)
