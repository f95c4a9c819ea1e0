"""The files of a start-up kit that people read and edit: README, systemd unit, compose file."""

from __future__ import annotations

from segfed.cli.kit import ServerKit, SiteKit

_SOCKET = "/run/segfed/agent.sock"
_SERVICE = """\
# cp to /etc/systemd/system/{name}.service, correct User and paths, then
# systemctl daemon-reload && systemctl enable --now {name}
[Unit]
Description={description}
After=network-online.target
Wants=network-online.target

[Service]
{user}
ExecStart=/opt/segfed/bin/segfed federate {command}
Restart=on-failure
RestartSec=10
# Long enough for the programs that it started to stop one by one.
TimeoutStopSec=60
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""

_COMPOSE = """\
# An image with segfed installed; build it from the release that the federation agreed on. Other
# commands run inside: docker compose exec {name} segfed federate ...
services:
  {name}:
    image: segfed:latest
    command: ["segfed", "federate", {command}]
    restart: unless-stopped
    init: true
    stop_grace_period: 60s
    volumes:
{volumes}
{more}"""

_SERVER_README = """\
# Server of the federation {federation}

Valid until {expires:%Y-%m-%d}. `server.key` never leaves this folder.

1. Start the server; it lets in the sites {sites}:

       segfed federate serve .

2. Start a study that its owner signed and the sites approved:

       segfed federate submit . signed.json

3. See how it goes:

       segfed federate status .

The sites call port {port}; nothing else needs to be reachable from outside.
"""

_SITE_README = """\
# Site {site} of the federation {federation}

SITE is your site's folder; its key `node.key`, which `segfed federate keys SITE` made, never leaves
your machine. Your machine calls {superlink} and nobody calls it. The server's certificate is valid
until {expires:%Y-%m-%d}; the operator renews it, and this kit stays good.

1. Trust the owner of the federation's studies (compare the file's hash by telephone):

       segfed federate trust SITE owner.pub

2. Look at a study, and decide:

       segfed federate approve SITE signed.json

3. Take part, until Ctrl-C; `compose.yaml` starts it with the machine:

       segfed federate join . SITE

   Agent and node then run as one user. The node starts code that the server sends, which could read
   whatever that user reads: images, labels and keys. `segfed-agent.service` and
   `segfed-node.service` start them as two users. For these, put `node.key` into this folder, give
   both to segfed-node alone, the site's folder to segfed alone (chmod 700), and write the number
   that `id -u segfed-node` prints into site.toml:

       [agent]
       peers = [NUMBER]

A new site begins with `site.toml` of this folder: copy it into an empty SITE and correct it.
"""

_SITE_SETTINGS = """\
name = "{site}"
# A built-in task (`segfed task list`), or the path of a task file.
task = "kidney_tumor"
contact = ""

[policy]
# Names of the studies that may train here; * stands for any run of letters.
studies = ["*"]
# Fewer training cases than this send no weights; fewer scored ones send no metric values.
minimum_train_cases = 10
minimum_metric_cases = 5
"""


def server_files(kit: ServerKit) -> dict[str, str]:
    """Name and text of each file beside the server's settings and keys."""
    return {
        "README.md": _SERVER_README.format(
            federation=kit.federation,
            expires=kit.expires,
            sites=", ".join(kit.sites),
            port=kit.port,
        ),
        "segfed-server.service": _SERVICE.format(
            name="segfed-server",
            description=f"segfed server of {kit.federation}",
            user="User=segfed",
            command="serve /srv/segfed/server",
        ),
        "compose.yaml": _COMPOSE.format(
            name="server",
            command='"serve", "/kit"',
            volumes="      - .:/kit",
            more=f'    ports:\n      - "{kit.port}:{kit.port}"\n',
        ),
    }


def site_files(kit: SiteKit) -> dict[str, str]:
    """Name and text of each file beside a site's settings."""
    return {
        "README.md": _SITE_README.format(
            federation=kit.federation,
            site=kit.site,
            expires=kit.expires,
            superlink=kit.superlink,
        ),
        "site.toml": _SITE_SETTINGS.format(site=kit.site),
        "segfed-agent.service": _SERVICE.format(
            name="segfed-agent",
            description=f"segfed agent of {kit.site}",
            user="User=segfed\nRuntimeDirectory=segfed",
            command=f"agent /srv/segfed/site --socket {_SOCKET}",
        ),
        "segfed-node.service": _SERVICE.format(
            name="segfed-node",
            description=f"segfed node of {kit.site}",
            user="# May call the agent by the group, and read nothing of the site.\n"
            "User=segfed-node\nSupplementaryGroups=segfed",
            command=f"node /srv/segfed/kit --socket {_SOCKET}",
        ),
        "compose.yaml": _COMPOSE.format(
            name="site",
            command='"join", "/kit", "/site"',
            volumes="      - .:/kit:ro\n      - /srv/segfed/site:/site",
            more="    gpus: all\n",
        ),
    }
