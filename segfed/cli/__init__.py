"""The command line: each command is a few lines over a library function."""

from segfed.cli.main import main

__all__ = ["main"]
