"""The search for images that end their process: by a crash of a decoder or a driver, or by taking all memory.

A shard whose worker died is begun again. If a worker dies of it a second time, its images are tried one by one, and the
one at which a worker dies is left out as failed: after three deaths at most.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from fcnseg.errors import OutputError

DEATHS_SEARCHED = 2
"""The deaths of workers at one shard after which its images are tried one by one."""

MOST_DEATHS_UNEXPLAINED = 4
"""The deaths at one shard of which no image is found guilty, after which the run stops."""


@dataclass
class Suspect:
    """A shard whose images are tried one by one: `index` is the next one of `images`."""

    number: int
    images: int
    index: int = 0


@dataclass
class PoisonSearch:
    """The shards that workers died of, and the images found guilty, by shard."""

    suspects: deque[Suspect] = field(default_factory=deque)
    poisonous: dict[int, frozenset[str]] = field(default_factory=dict)
    innocent: set[int] = field(default_factory=set)
    """Shards of which no single image ended a process: they are done one image at a time."""
    _deaths: Counter[int] = field(default_factory=Counter)
    _searched_to: dict[int, int] = field(default_factory=dict)

    def died(self, number: int, images: int) -> bool:
        """Take the death of a worker at a shard; tell whether the shard is to be begun again, else it is a suspect.

        Raises OutputError if no image can be found guilty.
        """
        self._deaths[number] += 1
        if self._deaths[number] >= MOST_DEATHS_UNEXPLAINED and number in self.innocent:
            raise OutputError(
                f"{self._deaths[number]} workers died at shard {number}, and of no single image of it: their memory "
                "may be too small; use fewer --workers or --tile, and run the same command again"
            )
        if self._deaths[number] < DEATHS_SEARCHED:
            return True
        self.suspects.append(Suspect(number, images, self._searched_to.get(number, 0)))
        return False

    def found(self, suspect: Suspect, key: str) -> None:
        """Take the image at which a worker died while it was tried alone."""
        self.poisonous[suspect.number] = self.poisonous.get(suspect.number, frozenset()) | {key}
        self._searched_to[suspect.number] = suspect.index + 1
        self._deaths[suspect.number] = DEATHS_SEARCHED - 1  # another death means another image

    def outlived(self, suspect: Suspect) -> None:
        """Take the end of a search that found nothing."""
        self.innocent.add(suspect.number)
