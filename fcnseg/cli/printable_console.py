"""A Rich console that prints nothing unprintable: names and texts come from files of strangers."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from fcnseg.cli.shown import shown


class PrintableConsole(Console):
    """Escapes control characters in all strings that it prints, those in the cells of tables too."""

    def render_str(self, text: str, *arguments: Any, **options: Any) -> Text:
        """Return the text as Rich prints it, lines apart, everything else unprintable escaped."""
        lines = [shown(line) for line in text.split("\n")]
        return super().render_str("\n".join(lines), *arguments, **options)
