"""Shell completion of option values: models, backends, precisions and whatever else has a set of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fcnseg.engine.options import BACKENDS, PRECISIONS, precisions_of
from fcnseg.recipes import recipe_names

Completer = Callable[[str], list[str]]


def complete_models(incomplete: str) -> list[str]:
    """Return the shipped models; where none fits, the shell completes files, which recipes of one's own are."""
    return _beginning(recipe_names(), incomplete)


def complete_values(*values: str) -> Completer:
    """Return a completion of these values."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(values, incomplete)

    return complete


complete_backends = complete_values("auto", *BACKENDS)
complete_precisions = complete_values("auto", *PRECISIONS)
complete_devices = complete_values("auto", "cpu", "cuda", "cuda:0", "mps")


def complete_engines(incomplete: str) -> list[str]:
    """Return `BACKEND:PRECISION` for the last item of a list that commas separate."""
    before, comma, last = incomplete.rpartition(",")
    pairs = (f"{backend}:{precision}" for backend in BACKENDS for precision in precisions_of(backend))
    return [f"{before}{comma}{pair}" for pair in _beginning((*BACKENDS, *pairs), last)]


def _beginning(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]
