"""Sentences that several commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fcnseg.cli.shown import shown
from fcnseg.io.left_out import kind_named

if TYPE_CHECKING:
    from fcnseg.running.hooks import ShardsState
    from fcnseg.types import EngineInfo

LINE_COLUMNS = 80
"""The columns of a line about an engine at most."""

UNUSED_GPU = "an NVIDIA GPU is here, but"
"""How the reason for a backend begins if it leaves a GPU unused: see `fcnseg.engine.select.lacking_cuda`."""

KINDS_SHOWN = 5
"""The kinds of files left out that are named; the rest are counted."""


def duration(seconds: float) -> str:
    """Return a duration in one or two units: 8 s, 3 min 20 s, 2 h 5 min, 3 days 4 h."""
    whole = round(seconds)
    for unit, size, part, smaller in (("days", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def described(info: EngineInfo) -> list[str]:
    """Return a line of at most 80 columns about an engine: what runs where.

    Unless it computes as the network does, another says how many labels the arithmetic changes; of a GPU that is not
    used the last says why, and what to do.
    """
    what = f"{shown(info.model)}: {info.precision} by {info.backend}"
    where = "" if info.device in info.backend else f" on {info.device}"
    unused_gpu = info.choice if info.choice.startswith(UNUSED_GPU) else ""
    return [_cut(what + where), *filter(None, [_difference(info), unused_gpu])]


def in_detail(info: EngineInfo) -> list[str]:
    """Return the lines that -v adds about an engine: its choice, its verification, its file, and the libraries."""
    found = info.verification
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
    lines = [f"chosen: {info.choice}"] if info.choice else []
    if found is not None:
        lines.append(f"verified: {found.agreement:.3%} of pixels labelled as by the fp32 network, on {found.images}")
    return [*lines, f"engine: {info.file or info.device}", f"versions: {versions}"]


def _difference(info: EngineInfo) -> str:
    found = info.verification
    if found is None:
        return "" if info.backend == "torch" else "this engine was not compared with the fp32 network"
    if info.precision == "fp32" and found.passed:
        return ""
    changed = 100 * (1 - found.agreement)
    share = "less than 0.01 %" if 0 < changed < 0.005 else f"{changed:.2f} %"
    exact = "" if info.precision == "fp32" else "; --precision fp32 changes none"
    return f"{info.precision} changes {share} of the labels{exact}"


def _cut(line: str) -> str:
    return line if len(line) <= LINE_COLUMNS else line[: LINE_COLUMNS - 3].rstrip() + "..."


def shards_text(state: ShardsState) -> str:
    """Return how many shards are done and by how many workers: `3 of 40 shards by 2 workers, 1 lost`."""
    workers = f"{state.alive} {'worker' if state.alive == 1 else 'workers'}"
    lost = f", {state.lost} lost" if state.lost else ""
    return f"{state.done:,} of {state.total:,} shards by {workers}{lost}"


def resized_line(short_px: int) -> str:
    """Return that images were resized for the network, and that label maps were not."""
    return f"images are resized to a short side of {short_px:,} px for the network; label maps have their own size"


def left_out_line(left_out: Mapping[str, int]) -> str:
    """Return how many files were not taken for images, and of which kinds: `3 files left out: 2 .mp4, 1 in @eaDir`."""
    total = sum(left_out.values())
    kinds = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    named = [f"{count:,} {kind_named(shown(kind))}" for kind, count in kinds[:KINDS_SHOWN]]
    others = sum(count for _, count in kinds[KINDS_SHOWN:])
    more = [f"{others:,} others"] if others else []
    return f"{total:,} {'file' if total == 1 else 'files'} left out: {', '.join([*named, *more])}"
