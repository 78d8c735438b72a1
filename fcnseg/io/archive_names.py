"""Members of archives as inputs, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fcnseg.io.folder_walk import SYSTEM_FOLDERS
from fcnseg.io.image_kinds import is_image_by_content
from fcnseg.io.left_out import LeftOut
from fcnseg.io.names import LONGEST_KEY_BYTES, LONGEST_PART_BYTES, is_too_long, safe_key, stem_of
from fcnseg.io.suffixes import IMAGES, has_suffix
from fcnseg.types import Failure, Reference


def is_hidden_member(name: str) -> bool:
    """Tell whether a member is hidden, or metadata that macOS adds."""
    if not name.startswith(".") and "/." not in name:  # nearly all, and quickly
        return False
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def system_folder_of(name: str) -> str | None:
    """Return the folder of thumbnails or metadata, added by a system, that a member lies in; None if it is in none."""
    return next((part for part in name.split("/")[:-1] if part in SYSTEM_FOLDERS), None)


def chooses_member(name: str, start: Callable[[], bytes], left_out: LeftOut) -> bool:
    """Tell whether a member, no folder, is an image: by its name or, where this tells nothing, by its first bytes.

    Others are counted, but for hidden ones.
    """
    if is_hidden_member(name):
        return False
    if folder := system_folder_of(name):
        left_out.add_in(folder)
        return False
    if has_suffix(name, IMAGES) or is_image_by_content(name, start):
        return True
    left_out.add(name)
    return False


def member_reference(name: str, fault: str, fingerprint: str, location: Any) -> Reference | Failure:
    """Return the reference of a member; a failure if there is a `fault`, or the name leads outside the archive."""
    key = safe_key(name)
    if key is None:
        return Failure(name[:LONGEST_KEY_BYTES], "list", "the member's name leads outside the archive")
    if is_too_long(key):
        return Failure(f"{key[:LONGEST_PART_BYTES]}...", "list", "the member's name is too long for a file")
    return Failure(key, "list", fault) if fault else Reference(key, stem_of(key), fingerprint, location)
