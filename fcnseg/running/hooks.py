"""Callbacks of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fcnseg.engine.options import BuildHooks
from fcnseg.types import EngineInfo, Failure, StageTimes


@dataclass(frozen=True)
class ShardsState:
    """The shards of a run, `done` of `total`, and the workers at them: those `alive`, and those `lost` until now."""

    done: int
    total: int
    alive: int
    lost: int = 0


@dataclass(frozen=True)
class Hooks:
    """Callbacks, invoked from any thread; those that are left out do nothing.

    `build`: while an engine is built. `on_listing(count)`: inputs listed so far. `on_start(total, info)`: the inputs of
    this part and the engine, before the first image. `on_stages(times)`: once, with a function that returns how busy
    the stages are. `on_result(key, failure)`: an input ended. `on_kept(key)`: an input was done before.
    `on_failed_before(failure)`: it failed in an earlier run and is not tried again. `on_note(line)`: a remark.
    `on_left_out(files)`: once, after `on_start` and if there are any, the number of files of the source that are no
    images, by suffix.

    Of runs in shards: `on_earlier(kept, failed)`, once: inputs that ended in earlier runs and no other call tells of;
    `on_progress(images)`: so many more are done in another process, or fewer, if they are to be done again;
    `on_shards(state)`: shards ended, or workers came or were lost.
    """

    build: BuildHooks = field(default_factory=BuildHooks)
    on_listing: Callable[[int], None] = lambda count: None
    on_start: Callable[[int, EngineInfo], None] = lambda total, info: None
    on_stages: Callable[[Callable[[], dict[str, StageTimes]]], None] = lambda times: None
    on_result: Callable[[str, Failure | None], None] = lambda key, failure: None
    on_kept: Callable[[str], None] = lambda key: None
    on_note: Callable[[str], None] = lambda line: None
    on_failed_before: Callable[[Failure], None] = lambda failure: None
    on_left_out: Callable[[Mapping[str, int]], None] = lambda files: None
    on_earlier: Callable[[int, int], None] = lambda kept, failed: None
    on_progress: Callable[[int], None] = lambda images: None
    on_shards: Callable[[ShardsState], None] = lambda state: None
