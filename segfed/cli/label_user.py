"""``segfed label user``: who may log in at a site's label server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from segfed.cli import console
from segfed.errors import ConfigError
from segfed.sites import (
    Role,
    Site,
    add_account,
    load_site,
    read_accounts,
    remove_account,
    set_password,
    set_role,
)

app = typer.Typer(no_args_is_help=True, help="Who may log in at a site's label server.")
_Person = Annotated[str, typer.Argument(metavar="NAME", help="Name of the account.")]
_FromStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input, one line."),
]


@app.command("add")
def add(
    folder: console.SiteFolder,
    name: _Person,
    role: Annotated[Role, typer.Option("--role", help="What they may do.")] = "annotator",
    from_stdin: _FromStdin = False,
    is_same_person: Annotated[
        bool,
        typer.Option("--same-person", help="The name's earlier labels are this person's, too."),
    ] = False,
) -> None:
    """Add an account; asks for its password."""
    site = load_site(folder)
    if not is_same_person:
        _check_unused(site, name)
    account = add_account(folder, name=name, role=role, password=_password(from_stdin=from_stdin))
    console.out.print(f"{account.name} may log in at site {site.name} as {account.role}.")


@app.command("password")
def password(folder: console.SiteFolder, name: _Person, from_stdin: _FromStdin = False) -> None:
    """Give an account another password; its logins end at once."""
    load_site(folder)
    set_password(folder, name=name, password=_password(from_stdin=from_stdin))
    console.out.print(f"{name} has a new password; earlier logins have ended.")


@app.command("role")
def role(
    folder: console.SiteFolder,
    name: _Person,
    to: Annotated[Role, typer.Argument(metavar="ROLE", help="What they may do from now on.")],
) -> None:
    """Give an account another role, from its next request on."""
    load_site(folder)
    set_role(folder, name=name, role=to)
    console.out.print(f"{name} is {to} now.")


@app.command("remove")
def remove(folder: console.SiteFolder, name: _Person) -> None:
    """Remove an account; its logins end at once, its labels stay."""
    load_site(folder)
    remove_account(folder, name)
    console.out.print(f"{name} may not log in any more.")


@app.command("list")
def list_(folder: console.SiteFolder, as_json: console.AsJson = False) -> None:
    """List the accounts of a site."""
    load_site(folder)
    accounts = read_accounts(folder).values()
    if as_json:
        console.print_json([{"name": known.name, "role": known.role} for known in accounts])
        return
    table = Table("name", "role", box=None, header_style="bold")
    for known in accounts:
        table.add_row(known.name, known.role)
    console.out.print(table)


def _check_unused(site: Site, name: str) -> None:
    """Refuse a name that labels bear: those of two people could not be told apart."""
    n_labels = sum(r.reader.casefold() == name.casefold() for r in site.ledger().records())
    if n_labels:
        raise ConfigError(
            f"Found labels by {name!r} at site {site.name} ({n_labels}); expected a name that no "
            "label bears, because the ledger knows people by their names only. Choose another "
            "name, or add --same-person if they are this person's."
        )


def _password(*, from_stdin: bool) -> str:
    """A password that nobody sees: neither on the screen nor in the list of processes."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return answer
