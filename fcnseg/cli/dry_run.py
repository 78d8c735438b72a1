"""`fcnseg run --dry-run`: what the run would be like, shown."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from fcnseg.cli.console import err, out, shown
from fcnseg.cli.progress import build_display, described, interruptible

if TYPE_CHECKING:
    from fcnseg.running.dry_run import Estimate
    from fcnseg.running.run import RunOptions
    from fcnseg.types import EngineInfo

SIZES_SHOWN = 8


def show_estimate(options: RunOptions, quiet: bool, as_json: bool) -> int:
    """Print the estimate; returns the exit code: 0, or 1 if what would be written does not fit."""
    from fcnseg.running.dry_run import estimate
    from fcnseg.running.run import Hooks

    with ExitStack() as stack:
        trying = stack.enter_context(ExitStack())
        building = stack.enter_context(ExitStack())
        hooks = building.enter_context(build_display(quiet))

        def on_start(sampled: int, info: EngineInfo) -> None:
            building.close()
            trying.enter_context(interruptible("nothing is written"))
            if not quiet:
                err().print(f"{described(info)}\ntrying {sampled} inputs", markup=False)

        found = estimate(options, Hooks(hooks, on_start=on_start))
    if as_json:
        sizes = [{"height": h, "width": w, "images": n} for (h, w), n in found.sizes.most_common()]
        values = {**asdict(found), "sizes": sizes, "too_large": found.too_large}
        out().print_json(json.dumps(values), ensure_ascii=True)
    else:
        for line in _lines(found, options):
            out().print(line, markup=False)
    return 1 if found.too_large else 0


def _lines(found: Estimate, options: RunOptions) -> list[str]:
    from fcnseg.cli.reporters import duration
    from fcnseg.running.disk_space import bytes_text

    parts = f", {found.part_inputs:,} of them in part {options.part_id}" if options.num_parts > 1 else ""
    formats = ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in found.formats.items())
    lines = [f"inputs        {found.inputs:,}{parts} ({formats}); no two would write one output"]
    if found.ended:
        lines.append(f"ended         {found.ended:,} by earlier runs; what follows is of the other {found.left:,}")
    if found.in_the_way:
        first, count = shown(found.in_the_way[0]), len(found.in_the_way)
        lines.append(f"in the way    {first}{f' and {count - 1:,} more' * (count > 1)}: made by no run of fcnseg")
        lines.append("              (their images will fail; remove them, or start over with --overwrite)")
    sizes = [f"{width} x {height} ({n})" for (height, width), n in found.sizes.most_common(SIZES_SHOWN)]
    more = f" and {len(found.sizes) - SIZES_SHOWN} more sizes" if len(found.sizes) > SIZES_SHOWN else ""
    lines.append(f"sizes         {', '.join(sizes) or '?'}{more}; of {found.sampled} inputs tried")
    if found.largest:
        height, width = found.largest
        beyond = sum(n for (h, w), n in found.sizes.items() if h > height or w > width)
        lines.append(f"engine        takes up to {width} x {height}; {beyond} of those tried are larger and are cut")
    lines += [f"              {name}: {count}" for name, count in found.events.items()]
    if found.failures:
        lines.append(f"failed        {len(found.failures)} of {found.sampled} tried:")
        lines += [f"              {shown(f.key)}: {shown(f.reason)}" for f in found.failures]
    if found.images_per_second:
        lines.append(f"time          about {duration(found.seconds)} ({found.images_per_second:.1f} images/s)")
    for kind, size in found.bytes_written.items():
        short = "  NOT ENOUGH" if kind in found.too_large else ""
        twice = "and as much again while it is written, " if found.bytes_needed[kind] > size else ""
        lines.append(
            f"{kind:14}about {bytes_text(size)}, {twice}{bytes_text(found.free_bytes[kind])} are free there{short}"
        )
    return lines
