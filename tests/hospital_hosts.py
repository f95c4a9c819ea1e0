"""Hosts of their own on this machine: each has its network, its firewall and its users."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]
_NETWORK = "10.87.0"
_SERVER_TOOLS = ("ip", "iptables", "setpriv")

# Lets other users run Python and the code here where a folder keeps them out, as /root does: on
# that host alone it is covered by an empty one, which holds no more than they need.
_UNCOVER = """
set -e
closed=$1; n=$2; shift 2
if [ "$n" != 0 ]; then
    mount -t tmpfs -o mode=755 tmpfs /mnt
    for i in $(seq "$n"); do
        eval "needed=\\${$i}"; mkdir "/mnt/$i"; mount --bind "$needed" "/mnt/$i"
    done
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    for i in $(seq "$n"); do
        eval "needed=\\${$i}"; mkdir -p "$needed"; mount --bind "/mnt/$i" "$needed"
    done
    shift "$n"
fi
exec setpriv "$@"
"""


@dataclass(frozen=True)
class Host:
    """A machine as others see it: a network namespace with one address."""

    namespace: str
    address: str

    def command(self, *arguments: object, user: int, groups: tuple[int, ...] = ()) -> list[str]:
        """What starts a program on this host as a user, whose own group has the same number."""
        shown = ",".join(map(str, groups))
        identity = (
            *("--reuid", str(user), "--regid", str(user)),
            *(("--groups", shown) if groups else ("--clear-groups",)),
        )
        closed = _closed_folder()
        needed = [str(path) for path in _needed_folders() if closed in path.parents]
        return [
            *("ip", "netns", "exec", self.namespace),
            *("sh", "-c", _UNCOVER, "sh", str(closed), str(len(needed)), *needed),
            *identity,
            *map(str, arguments),
        ]

    def run(
        self, *arguments: object, user: int = 0, groups: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """The outcome of a quick program on this host."""
        return subprocess.run(
            self.command(*arguments, user=user, groups=groups),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=environment(user),
        )

    def shut(self) -> None:
        """Let nobody in: of what comes from outside, only answers to what was asked from here."""
        for rule in (
            ("-A", "INPUT", "-i", "lo", "-j", "ACCEPT"),
            ("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"),
            ("-P", "INPUT", "DROP"),
        ):
            _ip("netns", "exec", self.namespace, "iptables", *rule)

    def lets_in(self, other: Host, *, port: int = 8081) -> bool:
        """Whether another host reaches a program that listens here."""
        listen = f"import socket; s = socket.create_server(('', {port})); print(flush=True)"
        with subprocess.Popen(
            self.command(sys.executable, "-c", f"{listen}; input()", user=0),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as listener:
            assert listener.stdout is not None
            listener.stdout.readline()
            call = f"import socket; socket.create_connection(('{self.address}', {port}), 3)"
            answer = other.run(sys.executable, "-c", call)
            listener.communicate(b"\n")
        assert answer.returncode == 0 or "timed out" in answer.stderr, answer.stderr
        return answer.returncode == 0


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[dict[str, Host]]:
    """Hosts that see each other through a switch; skips the test where they cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces; test_deployment.py runs on loopback")
    missing = [tool for tool in _SERVER_TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; test_deployment.py runs on loopback")
    prefix = f"sf{os.getpid()}"
    made: list[str] = []
    try:
        switch = _namespace(f"{prefix}-net", made)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        found = {}
        for number, name in enumerate(names, start=1):
            namespace = _namespace(f"{prefix}-{name}", made)
            _ip(
                *("-n", switch, "link", "add", f"port{number}", "type", "veth"),
                *("peer", "name", "eth0", "netns", namespace),
            )
            _ip("-n", switch, "link", "set", f"port{number}", "master", "switch", "up")
            host = Host(namespace, f"{_NETWORK}.{number}")
            _ip("-n", namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            found[name] = host
        yield found
    finally:
        for namespace in made:
            subprocess.run(("ip", "netns", "delete", namespace), check=False)


def environment(user: int) -> dict[str, str]:
    """This process's environment for another user, who has no entry in the list of users."""
    return os.environ | {"HOME": "/nowhere", "USER": f"user{user}"}


def _namespace(name: str, made: list[str]) -> str:
    """A new network namespace, noted before anything in it can fail."""
    added = subprocess.run(("ip", "netns", "add", name), capture_output=True, check=False)
    if added.returncode:
        pytest.skip(f"no network namespace to be had here: {added.stderr.decode().strip()}")
    made.append(name)
    _ip("-n", name, "link", "set", "lo", "up")
    return name


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True)


def _needed_folders() -> list[Path]:
    """What a program of ours reads: the interpreter, what is installed for it, and this code."""
    found = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), _REPOSITORY}
    return sorted(found)


def _closed_folder() -> Path | None:
    """The folder that keeps other users from what they need; None if none does."""
    for needed in _needed_folders():
        for folder in reversed(needed.parents):
            if not folder.stat().st_mode & 0o001:
                return folder
    return None
