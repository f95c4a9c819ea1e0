"""Makes the start-up kits of a federation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from segfed.agent import read_owner_key
from segfed.cli import kit_files
from segfed.cli.certificates import (
    Authority,
    load_or_make_authority,
    make_node_keys,
    read_node_public_key,
    write_authority,
    write_server_certificate,
)
from segfed.cli.kit import (
    KIT_FILE,
    NODE_KEY,
    OWNER_FILE,
    FederationSettings,
    ServerKit,
    SiteKit,
)
from segfed.files import write_bytes, write_text
from segfed.settings import toml_table

_LOOPBACK_NAMES = ("localhost", "127.0.0.1")


def provision(
    settings: FederationSettings,
    *,
    folder: Path,
    out: Path,
    now: datetime,
    make_keys: bool,
) -> tuple[Path, ...]:
    """Make a kit for the server and one for each site, or renew them with the same authority.

    Args:
        settings: Who takes part.
        folder: What the paths in the settings are relative to.
        out: Where the kits go, each in a folder of its own, and the authority, which stays.
        now: When certificates become valid.
        make_keys: Make the sites' private keys, too: for a trial on one machine, since whoever
            holds them can pose as the sites.

    Returns:
        The kits' folders, the server's first.

    Raises:
        ConfigError: If a public key is missing or of another kind.
    """
    owner = read_owner_key(folder / settings.owner)
    expires = now + timedelta(days=settings.days)
    if make_keys:
        for site, path in settings.sites.items():
            if not (folder / path).exists():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (out / site).mkdir(parents=True, exist_ok=True)
                make_node_keys(out / site / NODE_KEY, folder / path)
    public_keys = {
        site: read_node_public_key(folder / path) for site, path in settings.sites.items()
    }
    authority = load_or_make_authority(out / "authority", name=settings.name, now=now)
    server = _make_server_kit(
        settings, public_keys, authority, folder=out / "server", now=now, expires=expires
    )
    sites = [
        _make_site_kit(settings, site, authority, folder=out / site, expires=expires)
        for site in settings.sites
    ]
    for kit in (server, *sites):
        write_bytes(kit / OWNER_FILE, owner)
    return (server, *sites)


def _make_server_kit(
    settings: FederationSettings,
    public_keys: Mapping[str, bytes],
    authority: Authority,
    *,
    folder: Path,
    now: datetime,
    expires: datetime,
) -> Path:
    """The server's folder, with a new certificate and the public keys of the sites of now."""
    folder.mkdir(parents=True, exist_ok=True)
    kit = ServerKit(
        federation=settings.name,
        bind=settings.bind,
        port=settings.port,
        sites=tuple(sorted(public_keys)),
        expires=expires,
    )
    write_server_certificate(
        folder, authority, hosts=(settings.host, *_LOOPBACK_NAMES), now=now, until=expires
    )
    for site, content in public_keys.items():
        write_bytes(folder / "nodes" / f"{site}.pub", content)
    write_text(folder / KIT_FILE, toml_table(kit.model_dump(mode="json")))
    for name, text in kit_files.server_files(kit).items():
        write_text(folder / name, text)
    return folder


def _make_site_kit(
    settings: FederationSettings,
    site: str,
    authority: Authority,
    *,
    folder: Path,
    expires: datetime,
) -> Path:
    """A site's folder; it holds nothing secret."""
    folder.mkdir(parents=True, exist_ok=True)
    kit = SiteKit(
        federation=settings.name,
        site=site,
        superlink=f"{settings.host}:{settings.public_port or settings.port}",
        expires=expires,
    )
    write_authority(folder, authority)
    write_text(folder / KIT_FILE, toml_table(kit.model_dump(mode="json")))
    for name, text in kit_files.site_files(kit).items():
        write_text(folder / name, text)
    return folder
