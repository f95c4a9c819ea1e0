"""Loads the other channels of the current case beside the one that MONAI Label shows.

For 3D Slicer 5 with the MONAI Label extension; needs nothing but Slicer's own Python. How to use
it: see the README beside this file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

SHORTCUT = "Ctrl+Shift+C"
_TIMEOUT_SECONDS = 60
_BLOCK_BYTES = 1024**2
# A name that the server sends becomes a file name here.
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,210}\.nii\.gz")


class ChannelError(Exception):
    """A channel cannot be had; the text is for the reader."""


def other_channels(server_url: str, case_id: str, headers: dict[str, str]) -> dict[str, dict]:
    """Name and checksum of the file of every channel but the displayed one.

    Args:
        server_url: The label server, as entered in Slicer's module.
        case_id: The case, as the server names it.
        headers: The login, where the server asks for one.

    Returns:
        By channel, in the task's order: ``{"name": ..., "checksum": "SHA256:..."}``.

    Raises:
        ChannelError: If the server refuses, or does not answer as a segfed label server does.
    """
    url = f"{server_url.rstrip('/')}/channels/{case_id}"
    with _open(url, headers) as answer:
        content = answer.read()
    try:
        listed = json.loads(content)
        return {
            channel: {"name": about["name"], "checksum": about["checksum"]}
            for channel, about in listed["channels"].items()
            if channel != listed["displayed"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ChannelError(
            f"Found another answer at {url} than a list of channels ({error!r}); expected a segfed "
            "label server. Check the server's address in the MONAI Label module."
        ) from error


def download(
    server_url: str,
    case_id: str,
    channel: str,
    *,
    name: str,
    checksum: str,
    folder: Path,
    headers: dict[str, str],
) -> Path:
    """The file of one channel, from the server or from an earlier download.

    A file appears whole or not at all, and only if it has the checksum that was announced.

    Raises:
        ChannelError: If the server refuses, or sends something else than it announced.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise ChannelError(
            f"Found the file name {name!r} for channel {channel}; expected letters, digits, '_', "
            "'-' and the end .nii.gz. Tell whoever runs the label server."
        )
    path = folder / name
    if path.is_file() and _checksum(path) == checksum:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    url = f"{server_url.rstrip('/')}/channels/{case_id}/{channel}"
    descriptor, partial = tempfile.mkstemp(suffix=".nii.gz", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file, _open(url, headers) as answer:
            while block := answer.read(_BLOCK_BYTES):
                file.write(block)
        found = _checksum(Path(partial))
        if found != checksum:
            raise ChannelError(
                f"Channel {channel} of case {case_id} arrived with the checksum {found}, expected "
                f"{checksum}. Load the channels again; if that does not help, tell whoever runs "
                "the label server."
            )
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return path


def node_name(case_id: str, channel: str) -> str:
    """How a channel is called in Slicer's scene."""
    return f"{case_id} {channel}"


def load_channels() -> list[str]:
    """Load the other channels of the case that the MONAI Label module has open.

    Returns:
        Names of the volumes that were loaded; those that are in the scene already are left out.
    """
    import slicer

    module = slicer.modules.MONAILabelWidget
    case_id = (module.current_sample or {}).get("id")
    if not case_id:
        raise ChannelError("Found no open case; expected one. Press Next Sample first.")
    server_url = module.serverUrl()
    # The module's own login, so that nobody has to log in twice.
    login = module.logic._client()._headers.get("Authorization")
    headers = {"Authorization": login} if login else {}
    loaded = []
    for channel, about in other_channels(server_url, case_id, headers).items():
        title = node_name(case_id, channel)
        if slicer.mrmlScene.GetFirstNodeByName(title) is not None:
            continue
        path = download(
            server_url,
            case_id,
            channel,
            **about,
            folder=Path(slicer.app.temporaryPath) / "segfed-channels",
            headers=headers,
        )
        slicer.util.loadVolume(str(path), {"name": title, "show": False})
        loaded.append(title)
    return loaded


def load_channels_or_say_why() -> None:
    """What the shortcut does."""
    import slicer

    try:
        loaded = load_channels()
    except (ChannelError, AttributeError, RuntimeError, OSError) as error:
        slicer.util.errorDisplay(f"The other channels could not be loaded. {error}")
        return
    slicer.util.showStatusMessage(f"Loaded: {', '.join(loaded) or 'nothing new'}", 5000)


def add_shortcut() -> None:
    """Let a shortcut load the channels from now on."""
    import qt
    import slicer

    shortcut = qt.QShortcut(slicer.util.mainWindow())
    shortcut.setKey(qt.QKeySequence(SHORTCUT))
    shortcut.connect("activated()", load_channels_or_say_why)


def _open(url: str, headers: dict[str, str]):
    """An answer of the server; a refusal becomes an error with the server's own words."""
    if not url.startswith(("http://", "https://")):
        raise ChannelError(
            f"Found the server address {url!r}; expected one that begins with http:// or https://. "
            "Correct it in the MONAI Label module."
        )
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers),
            timeout=_TIMEOUT_SECONDS,
        )
    except urllib.error.HTTPError as error:
        with error:
            raise ChannelError(_reason(error)) from error
    except OSError as error:
        raise ChannelError(
            f"{url} does not answer ({error}); expected the label server. Check that it runs, and "
            "for https that this computer knows the hospital's certificate."
        ) from error


def _reason(error: urllib.error.HTTPError) -> str:
    """The sentence in the server's refusal."""
    content = error.read()
    try:
        return str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The server answered {error.code} {error.reason} to {error.url}."


def _checksum(path: Path) -> str:
    """A file's checksum as the label server writes it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return f"SHA256:{digest.hexdigest()}"
