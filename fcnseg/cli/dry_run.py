"""`fcnseg run --dry-run`: an estimate of the run, printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import count

from fcnseg.cli.console import out, say, shown
from fcnseg.cli.progress import build_display, counted_progress, interruptible
from fcnseg.cli.wording import described, duration, in_detail, left_out_line, resized_line
from fcnseg.running.disk_space import bytes_text
from fcnseg.running.dry_run import Estimate, estimate
from fcnseg.running.hooks import Hooks
from fcnseg.running.options import RunOptions
from fcnseg.running.short_side import resized_size
from fcnseg.types import EngineInfo

SIZES_SHOWN = 8


def show_estimate(options: RunOptions, quiet: bool, as_json: bool, verbose: int) -> int:
    """Print the estimate, and return the exit code: 0, or 1 if the outputs would not fit."""
    with ExitStack() as stack:
        trying = stack.enter_context(ExitStack())
        building = stack.enter_context(ExitStack())
        hooks = building.enter_context(build_display(quiet, verbose))
        tried = count(1)
        updates: list[Callable[[int], None]] = []

        def on_start(sampled: int, info: EngineInfo) -> None:
            building.close()
            trying.enter_context(interruptible("nothing is written"))
            if not quiet:
                for line in [*described(info), *(in_detail(info) if verbose else [])]:
                    say(line)
            update = trying.enter_context(counted_progress(f"trying {sampled} inputs", quiet, verbose))
            updates.append(partial(update, total=sampled))

        def on_tried() -> None:
            for update in updates:
                update(next(tried))

        result = estimate(options, Hooks(hooks, on_start=on_start), on_tried)
    if as_json:
        sizes = [{"height": h, "width": w, "images": n} for (h, w), n in result.sizes.most_common()]
        values = {**asdict(result), "sizes": sizes, "too_large": result.too_large, "resize_short": options.resize_short}
        out().print_json(json.dumps(values), ensure_ascii=True)
    else:
        for line in _lines(result, options):
            out().print(line, markup=False)
    return 1 if result.too_large else 0


def _lines(result: Estimate, options: RunOptions) -> list[str]:
    parts = f", {result.part_inputs:,} of them in part {options.part_id}" if options.num_parts > 1 else ""
    formats = ", ".join(f"{n:,} {suffix or 'without a suffix'}" for suffix, n in result.formats.items())
    lines = [f"inputs        {result.inputs:,}{parts} ({formats}); no two would write one output"]
    if result.left_out:
        total, kinds = left_out_line(result.left_out).split(" left out: ")
        lines.append(f"left out      {total}: {kinds}")
    if result.ended:
        lines.append(f"ended         {result.ended:,} by earlier runs; what follows is of the other {result.left:,}")
    if result.in_the_way:
        first, others = shown(result.in_the_way[0]), len(result.in_the_way) - 1
        lines.append(f"in the way    {first}{f' and {others:,} more' * (others > 0)}: made by no run of fcnseg")
        lines.append("              (their images will fail; remove them, or start over with --overwrite)")
    sizes_tried = result.sizes.most_common()
    sizes = [f"{width} x {height} ({n})" for (height, width), n in sizes_tried[:SIZES_SHOWN]]
    more = f" and {len(result.sizes) - SIZES_SHOWN} more sizes" if len(result.sizes) > SIZES_SHOWN else ""
    lines.append(f"sizes         {', '.join(sizes) or '?'}{more}; of {result.sampled} inputs tried")
    if options.resize_short:
        lines.append(f"resized       {resized_line(options.resize_short)}")
    if result.largest:
        height, width = result.largest
        taken = [(resized_size(s, options.resize_short) if options.resize_short else s, n) for s, n in sizes_tried]
        beyond = sum(n for (h, w), n in taken if h > height or w > width)
        lines.append(f"engine        takes up to {width} x {height}; {beyond} of those tried are larger and are cut")
    lines += [f"              {name}: {n}" for name, n in result.events.items()]
    if result.failures:
        lines.append(f"failed        {len(result.failures)} of {result.sampled} tried:")
        lines += [f"              {shown(f.key)}: {shown(f.reason)}" for f in result.failures]
    if result.images_per_second:
        lines.append(f"time          about {duration(result.seconds)} ({result.images_per_second:.1f} images/s)")
    for kind, size in result.bytes_written.items():
        short = "  NOT ENOUGH" if kind in result.too_large else ""
        if kind not in result.free_bytes:
            lines.append(f"{kind:14}about {bytes_text(size)}")
            continue
        twice = "and as much again while it is written, " if result.bytes_needed[kind] > size else ""
        lines.append(
            f"{kind:14}about {bytes_text(size)}, {twice}{bytes_text(result.free_bytes[kind])} are free there{short}"
        )
    return lines
