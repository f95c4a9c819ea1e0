"""A page on paper: printed by a browser, which knows how to break tables and draw charts."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from segfed.errors import ConfigError
from segfed.files import replacing

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "msedge",
    "chrome",
)
"""Programs that print with the same options, in the order in which they are looked for."""

_FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--no-pdf-header-footer",
)  # fmt: skip
_SECONDS = 180.0


def print_page(page: Path, pdf: Path, *, browser: str) -> Path:
    """Print an HTML page as PDF, in light colours and with everything unfolded; returns the PDF.

    The browser has a profile of its own and nothing to load beside the page.

    Args:
        page: The page.
        pdf: The file to write; it appears whole or not at all.
        browser: Path of Chromium or one of its kin; see ``BROWSERS``.

    Raises:
        ConfigError: If the browser cannot be started, takes minutes, or prints nothing.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, replacing(pdf) as made:
        printed = Path(folder) / "page.pdf"
        command = [
            browser,
            *_FLAGS,
            # Chromium refuses to run as root with its sandbox; the page is our own.
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),
            f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={printed}",
            page.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_SECONDS, check=False, text=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failure(browser, page, str(error)) from error
        if done.returncode != 0 or not printed.exists():
            last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            raise _failure(browser, page, f"exit {done.returncode}, and said: {last[0]}")
        made.write_bytes(printed.read_bytes())
    return pdf


def _failure(browser: str, page: Path, found: str) -> ConfigError:
    """What to say of a browser that does not print."""
    return ConfigError(
        f"{browser} did not print {page}: {found}; expected a PDF within {_SECONDS:.0f} s. Open "
        "the page in any browser and print it there, or install another of "
        f"{', '.join(BROWSERS[:5])}."
    )
