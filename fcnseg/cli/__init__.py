"""The command line: one file a command. The only place that prints, exits, or knows Typer and Rich."""

import sys

__all__ = ["main"]


def main() -> None:
    """The `fcnseg` command."""
    try:
        from fcnseg.cli.app import main as command
    except KeyboardInterrupt:  # loading takes long enough to press it
        sys.stderr.write("fcnseg: interrupted\n")
        sys.exit(130)
    command()
