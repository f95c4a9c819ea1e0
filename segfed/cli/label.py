"""``segfed label``: labels that experts draw or correct in 3D Slicer, and their record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segfed.cli import console, label_records, label_study, label_user
from segfed.cli.label_listen import LOOPBACK, Listen
from segfed.cli.label_restart import serve_for_good, site_starter
from segfed.cli.label_server import RunningServer, label_server
from segfed.errors import ServerError
from segfed.sites import load_site

app = typer.Typer(no_args_is_help=True, help="Labels by experts, with or without a proposal.")
app.add_typer(label_user.app, name="user")
_Reader = Annotated[
    str | None,
    typer.Option("--reader", help="Whose name the labels bear; default: you, as logged in here."),
]


@app.command("serve")
def serve(
    folder: console.SiteFolder,
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8000,
    reader: _Reader = None,
    device: console.Device = "auto",
    host: Annotated[
        str, typer.Option("--host", help="Address of this machine; 0.0.0.0 for all of them.")
    ] = LOOPBACK,
    certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", help="PEM file, with its chain.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="PEM file.")] = None,
    public_names: Annotated[
        list[str] | None,
        typer.Option("--public-name", help="Host name that readers use; may be repeated."),
    ] = None,
) -> None:
    """Serve a site's cases to 3D Slicer, until you press Ctrl-C.

    Only this machine is served, unless the site has accounts (segfed label user add) and you give
    --host, --tls-certificate, --tls-key and --public-name. A server that crashes starts again.
    """
    site = load_site(folder)
    listen = Listen(
        host=host,
        port=port,
        certificate=certificate and certificate.resolve(),
        key=key and key.resolve(),
        public_names=tuple(public_names or ()),
    )

    def announce(server: RunningServer) -> None:
        console.out.print(
            f"Site {site.name} is served at {server.url}. In 3D Slicer open the MONAI Label "
            "module, enter this address and press the round arrow beside it; log in if asked. "
            "Ctrl-C ends the server.",
            soft_wrap=True,
        )

    start = site_starter(folder, reader=reader, device=device)
    serve_for_good(start, listen=listen, on_ready=announce)


@app.command("simulate")
def simulate(
    folder: console.SiteFolder,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the reader's errors.")] = 0,
) -> None:
    """Let a simulated reader correct the proposals for a synthetic site's training cases."""
    from segfed.phantom.annotator import annotate_site, assign_assisted
    from segfed.study import current_model

    site = load_site(folder)
    if current_model(site) is None:
        raise ServerError(
            f"Site {site.name} has no published model; expected one whose proposals the reader can "
            "correct. Publish one with `segfed model publish`."
        )
    reader = assign_assisted(site)
    with console.progress_bars() as progress, label_server(folder, reader=reader.name) as url:
        bar = progress.add_task(f"label {site.name}", total=None, note="")
        summary = annotate_site(
            url,
            site,
            reader,
            seed=seed,
            on_case=lambda case: progress.update(bar, advance=1, note=case.case_id),
        )
    origins = ", ".join(f"{count} {origin}" for origin, count in summary.origins.items())
    console.out.print(
        f"{summary.reader} submitted {summary.n_cases} labels at {site.name}: "
        f"{origins or 'every case has its label already'}."
    )


app.command("assign")(label_study.assign)
app.command("status")(label_study.status)
app.command("history")(label_records.history)
app.command("approve")(label_records.approve)
app.command("reject")(label_records.reject)
app.command("reopen")(label_records.reopen)
app.command("export")(label_records.export)
