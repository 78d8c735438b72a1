"""The command line: one file a command. The only place that prints, exits, or knows Typer and Rich."""

import sys

from fcnseg.cli.leaving import prepare_leaving
from fcnseg.cli.standard_streams import begin_json_logs, log_event, open_standard_streams
from fcnseg.workers.limits import spare_threads
from fcnseg.workers.signals import stops_interrupt

__all__ = ["main"]


def main() -> None:
    """The `fcnseg` command."""
    prepare_leaving()
    open_standard_streams()
    spare_threads()
    if "--json-logs" in sys.argv:
        begin_json_logs()
    with stops_interrupt():
        try:
            from fcnseg.cli.app import main as command
        except KeyboardInterrupt:  # loading takes long enough to press it
            if "--json-logs" in sys.argv:
                log_event("end", exit_code=130, interrupted=True)
            else:
                sys.stderr.write("fcnseg: interrupted\n")
            sys.exit(130)
        command()
