"""The code blocks of Markdown pages, with the comments that say how a test treats them.

A block of a language in RUN is executed, in the order of its page, unless a comment stands before its fence:

    <!-- not run: REASON -->         it is not executed, for this reason
    <!-- run with: ARGUMENTS -->     they are added to each of its commands
    <!-- exit code: N -->            its commands end so (0 otherwise)
    <!-- setup: COMMANDS -->         these are executed before it

Blocks of other languages are outputs and files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

RUN = ("sh", "python")
SHOWN = ("text", "toml", "json", "dockerfile", "yaml")
DIRECTIVES = ("not run", "run with", "exit code", "setup")

_FENCE = re.compile(r"\s*```(.*)")
_COMMENT = re.compile(r"\s*<!-- (.*?): (.*) -->")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its lines, the number of its first line, and the comments before it."""

    language: str
    lines: tuple[str, ...]
    number: int
    directives: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[str]:
        """The commands of a block of the shell, those of several lines joined."""
        joined = "\n".join(self.lines).replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip()]

    @property
    def is_run(self) -> bool:
        """Tell whether a test executes the block."""
        return self.language in RUN and "not run" not in self.directives


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page. Raises ValueError for comments and fences that are not understood."""
    directives: dict[str, str] = {}
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        if comment := _COMMENT.fullmatch(line):
            if comment[1] not in DIRECTIVES or comment[1] in directives or not comment[2].strip():
                raise ValueError(f"{page.name}:{number}: {line}")
            directives[comment[1]] = comment[2]
        elif fence := _FENCE.fullmatch(line):
            inside = []
            for _, text in lines:
                if _FENCE.fullmatch(text):
                    break
                inside.append(text)
            else:
                raise ValueError(f"{page.name}:{number}: the block has no end")
            yield Block(fence[1], tuple(inside), number, directives)
            directives = {}
        elif line.strip() and directives:
            raise ValueError(f"{page.name}:{number}: a comment about a block is not followed by one")
