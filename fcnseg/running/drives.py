"""Drives: which file systems are a single machine's, so that a lock on them is seen by all who use them."""

from __future__ import annotations

import os
from pathlib import Path

LOCAL = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "overlay"),
        *("tmpfs", "ramfs", "rootfs", "vfat", "exfat", "ntfs", "ntfs3", "apfs", "hfs"),
    }
)
"""File systems that one machine mounts at a time."""

MOUNTS = Path("/proc/self/mountinfo")


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, as `mount` calls it; empty if it is not known."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place, best, kind = os.path.realpath(folder), "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = before.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        if os.path.commonpath([place, mounted]) == mounted and len(mounted) >= len(best):
            best, kind = mounted, after.split()[0]
    return kind


def locks_reach_all(folder: Path) -> bool:
    """Tell whether every process that can write to a folder sees the locks there: on a local drive, it does."""
    kind = file_system(folder)
    return not kind or kind in LOCAL
