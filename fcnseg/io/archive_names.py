"""Members of archives as inputs, by their names."""

from __future__ import annotations

from typing import Any

from fcnseg.io.names import LONGEST_KEY_BYTES, LONGEST_PART_BYTES, is_too_long, safe_key, stem_of
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.types import Failure, Reference


def is_image_member(name: str) -> bool:
    """Tell whether a member is an image, and not hidden."""
    return has_suffix(name, IMAGES) and not is_hidden_member(name)


def is_hidden_member(name: str) -> bool:
    """Tell whether a member is hidden, or metadata that macOS adds."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in name.split("/"))


def member_reference(name: str, fault: str, fingerprint: str, location: Any) -> Reference | Failure:
    """Return the reference of a member; a failure if there is a `fault`, or the name leads outside the archive."""
    key = safe_key(name)
    if key is None:
        return Failure(name[:LONGEST_KEY_BYTES], "list", "the member's name leads outside the archive")
    if is_too_long(key):
        return Failure(f"{key[:LONGEST_PART_BYTES]}...", "list", "the member's name is too long for a file")
    return Failure(key, "list", fault) if fault else Reference(key, stem_of(key), fingerprint, location)
