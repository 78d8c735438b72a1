"""Members of archives as inputs."""

from __future__ import annotations

from typing import Any

from fcnseg.io.names import safe_key, stem_of
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.types import Failure, Reference


def wanted(name: str) -> bool:
    """Whether a member of that name is an image, and not a hidden one or what macOS adds."""
    hidden = any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in name.split("/"))
    return has_suffix(name, IMAGES) and not hidden


def reference(name: str, fault: str, fingerprint: str, place: Any) -> Reference | Failure:
    """A member by its name; a failure if there is a `fault`, or if the name leads outside the output folder."""
    key = safe_key(name)
    if key is None:
        return Failure(name, "list", "the member's name leads outside the archive")
    return Failure(key, "list", fault) if fault else Reference(key, stem_of(key), fingerprint, place)
