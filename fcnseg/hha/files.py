"""HHA images in files, of depth maps in files, by the pipeline and with the ledger of a run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from PIL import Image

from fcnseg.errors import SettingsError
from fcnseg.hha.depth_maps import DepthMaps
from fcnseg.hha.encoders import Encoders
from fcnseg.hha.records import HhaOptions, open_ledger, write_record
from fcnseg.hha.stages import MARK, SUFFIX, HhaSink, HhaSource, NoNetwork
from fcnseg.io.names import RECORDS
from fcnseg.io.storage import LocalFolder
from fcnseg.running.finish import check_outputs
from fcnseg.running.hooks import Hooks
from fcnseg.running.listing import survey
from fcnseg.running.name_rules import NameRules
from fcnseg.running.pipeline import Pipeline
from fcnseg.types import Failure, Reference, Summary
from fcnseg.workers.limits import usable_cores

FEWEST_A_PROCESS = 8
"""With fewer depth maps for each, processes take longer to start than they save."""


def encode_files(
    options: HhaOptions,
    on_progress: Callable[[int, int], None] = lambda ended, total: None,
    on_note: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Encode the depth maps of a folder, file, archive or HDF5 dataset as `out/<stem>.png`, each written atomically.

    The same call again goes on where an earlier one was stopped. Inputs that fail are in the summary. `on_progress` is
    called with the number of depth maps that have ended and of those that need work, `on_note` with remarks.

    Raises SourceError if there are no inputs; SettingsError if two would write one output, if an output would replace
    an input or a file that is no earlier output, or for other settings than those of the images that are there;
    OutputError for an output that cannot be written.
    """
    out = options.out
    if options.raw is not None and os.path.realpath(options.raw) == os.path.realpath(out):
        raise SettingsError(f"{out} holds the raw depth maps; choose another --out")
    with closing(DepthMaps(options.source, options.raw, options.scale, exclude=(out,))) as maps:
        rules = NameRules([out])

        def check(reference: Reference) -> None:
            if rules.fold(reference.stem).startswith((f"{RECORDS}/", f"{RECORDS}.")):
                raise SettingsError(f"{reference.key} would be written among the records; rename it")
            _check_output(out / f"{reference.stem}{SUFFIX}", reference)

        total = survey(maps, check=check, remedy="rename one of them", rules=rules).total
        workers = options.workers or max(1, min(usable_cores(), total // FEWEST_A_PROCESS))
        hooks = _Progress(total, on_progress).hooks(on_note)
        with open_ledger(options, on_note) as ledger, Encoders(options.camera, processes=workers > 1) as encoders:
            ledger.note(listed=[total], left_out={}, listed_at=time.time(), ended=None)
            summary = Pipeline(
                HhaSource(maps, encoders),
                NoNetwork(),
                [HhaSink(LocalFolder(out))],
                ledger,
                total=total,
                workers=workers,
                retry_failed=options.retry_failed,
                replace=True,  # of others' files there are none, as the survey found
                hooks=hooks,
            ).run()
            whole = not (summary.interrupted or summary.stopped)
            if whole:
                check_outputs(ledger)
            ended = {"done": summary.done + summary.kept, "failed": summary.failed}
            ledger.note(ended=ended if whole else None)
            write_record(options, summary)
    return summary


class _Progress:
    """Counts depth maps that ended: those that need no work are none of the total."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        self.total, self.ended, self.on_progress = total, 0, on_progress
        self.lock = threading.Lock()

    def hooks(self, on_note: Callable[[str], None]) -> Hooks:
        """Return the callbacks for the pipeline."""
        return Hooks(on_result=self._end, on_kept=self._keep, on_failed_before=self._keep, on_note=on_note)

    def _end(self, key: str, failure: Failure | None) -> None:  # noqa: ARG002
        with self.lock:
            self.ended += 1
        self.on_progress(self.ended, self.total)

    def _keep(self, kept: str | Failure) -> None:  # noqa: ARG002
        with self.lock:
            self.total -= 1
        self.on_progress(self.ended, self.total)


def _check_output(path: Path, reference: Reference) -> None:
    if not path.exists():
        return
    if isinstance(reference.location, str) and path.samefile(reference.location):
        raise SettingsError(f"{path} is a depth map itself; choose another --out")
    if not _is_own_output(path):
        raise SettingsError(f"{path} exists and fcnseg hha did not make it; remove it or choose another --out")


def _is_own_output(path: Path) -> bool:
    key, value = MARK
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get(key) == value
    except (OSError, ValueError, SyntaxError):
        return False
