"""The command line: one file a command. The only place that prints, exits, or knows Typer and Rich."""

from fcnseg.cli.app import main

__all__ = ["main"]
