"""The command line: every step of the workflow as a command."""

from sharpflat.cli.main import main

__all__ = ["main"]
