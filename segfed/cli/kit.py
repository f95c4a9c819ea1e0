"""Start-up kits: what the server and each hospital of a federation start with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, model_validator

from segfed.errors import ConfigError, FederationError
from segfed.settings import Settings, load_toml
from segfed.sites.tasks import Name

KIT_FILE = "kit.toml"
AUTHORITY_FILE = "ca.crt"
OWNER_FILE = "owner.pub"
NODE_KEY, NODE_PUBLIC_KEY = "node.key", "node.pub"
_WARN_BEFORE = timedelta(days=30)
Port = Annotated[int, Field(ge=1, le=65535)]


class FederationSettings(Settings):
    """``federation.toml``: who takes part, and where the server is."""

    name: Name
    host: str
    """Name or address by which the sites reach the server; its certificate says so."""

    port: Port = 9092
    """Where the server listens; the one port that a hospital must let out."""

    public_port: Port | None = None
    """Where the sites call, if a proxy stands in between that passes TCP on; else ``port``."""

    bind: str = "127.0.0.1"
    """Address that the server listens at: 0.0.0.0 lets other machines in."""

    days: Annotated[int, Field(ge=1, le=825)] = 365
    """How long certificates are valid."""

    owner: Path
    """Public key of the one who signs studies."""

    sites: Annotated[dict[Name, Path], Field(min_length=2)]
    """Each site's public key, as the site sent it."""

    @model_validator(mode="after")
    def _is_no_site(self) -> Self:
        taken = sorted({"server", "authority"} & self.sites.keys())
        if taken:
            raise ValueError(f"a site is called {taken[0]!r}, which is a folder of the kits")
        return self


class ServerKit(Settings):
    """``kit.toml`` of the server."""

    federation: Name
    bind: str
    port: Port
    sites: tuple[Name, ...]
    expires: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _is_the_server_s(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "superlink" in raw:
            raise ValueError(
                f"this is the kit of site {raw.get('site')!r}, expected the server's. Give the "
                "folder 'server' beside it; `segfed federate join` takes a site's kit"
            )
        return raw


class SiteKit(Settings):
    """``kit.toml`` of a site."""

    federation: Name
    site: Name
    superlink: str
    """Host and port that the site's node calls."""

    expires: AwareDatetime
    """Of the server's certificate when the kit was made; the kit itself stays good, as the server
    renews that one without the sites."""

    @model_validator(mode="before")
    @classmethod
    def _is_a_site_s(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "bind" in raw:
            raise ValueError(
                "this is the kit of the server, expected a site's. Give the folder beside it that "
                "has the site's name; `segfed federate serve` takes the server's kit"
            )
        return raw


def load_server_kit(folder: Path) -> ServerKit:
    """The server's kit in a folder.

    Raises:
        ConfigError: If there is none.
        FederationError: If it has expired.
    """
    kit = load_toml(folder / KIT_FILE, ServerKit, kind="server's kit")
    _refuse_expired(folder, kit.expires)
    return kit


def load_site_kit(folder: Path, *, site: str | None) -> SiteKit:
    """The kit of a site in a folder; of any site, if none is named.

    Raises:
        ConfigError: If there is none, or it is another site's.
    """
    kit = load_toml(folder / KIT_FILE, SiteKit, kind="site's kit")
    if site is not None and kit.site != site:
        raise ConfigError(
            f"{folder} is the kit of site {kit.site!r}, expected that of {site!r}. Use that one, "
            "or correct the name in site.toml."
        )
    return kit


def expiry_warning(kit: ServerKit, *, now: datetime) -> str | None:
    """What to say of a server's certificate that expires soon; None while it does not."""
    if kit.expires - now > _WARN_BEFORE:
        return None
    expires = "expires" if kit.expires > now else "expired"
    return (
        f"The server's certificate {expires} at {kit.expires:%Y-%m-%d %H:%M} UTC; from then on no "
        "site gets in: run `segfed federate provision` again, and restart the server."
    )


def renewal_reminder(kit: SiteKit, *, now: datetime) -> str | None:
    """What a site is told once the server's certificate may expire soon; None while it does not.

    A site cannot know whether the operator has renewed it since the kit was made.
    """
    if kit.expires - now > _WARN_BEFORE:
        return None
    return (
        "The certificate that the server had when this kit was made is good until "
        f"{kit.expires:%Y-%m-%d %H:%M} UTC: ask its operator whether `segfed federate provision` "
        "has renewed it. This kit stays good; a new one names the new day."
    )


def _refuse_expired(folder: Path, expires: datetime) -> None:
    """Refuse what TLS would refuse with fewer words."""
    if expires <= datetime.now(UTC):
        raise FederationError(
            f"The kit {folder} was valid until {expires:%Y-%m-%d %H:%M} UTC; expected one that is "
            "valid today. Make a new one: `segfed federate provision`."
        )
