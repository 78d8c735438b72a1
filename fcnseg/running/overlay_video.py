"""The overlay video of a run over a video: its frames, at their own times, with their classes drawn over them."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from fcnseg.drawing import overlay
from fcnseg.errors import ImageError, OutputError, SettingsError
from fcnseg.io.atomic import flush_folder, make_durable_folder, new_digest, write_whole
from fcnseg.io.locks import held
from fcnseg.labels import LabelSpace
from fcnseg.running.intact import absolute_path, is_intact, recorded, relative_path
from fcnseg.running.ledger import SqliteLedger
from fcnseg.running.outputs import Outputs, unwritable
from fcnseg.running.records import LEDGERS
from fcnseg.running.worklist import LOOKED_UP_AT_ONCE, chunks
from fcnseg.types import Ledger, Pixels, RecordedOutput, Reference, Source

LOCK = "overlay-video"
"""The lock of the one process that writes the video."""

BLOCK_BYTES = 1 << 20


class LabelledFrame(NamedTuple):
    """A frame of the source, and the file of its label map; None if it has failed."""

    reference: Reference
    labels: Path | None


def check_overlay_video(outputs: Outputs) -> None:
    """Raise SettingsError for an overlay video of several heads, or in the place of the source or of a file that no run
    made, and OutputError for one that cannot be written. Nothing is checked where none is asked for."""
    target = outputs.options.overlay_video
    if target is None:
        return
    if len(outputs.heads) > 1:
        heads = " and ".join(outputs.heads)
        raise SettingsError(f"{target} is one video, and this model has the heads {heads}; give a folder as --overlay")
    if os.path.realpath(target) == os.path.realpath(outputs.options.source):
        raise SettingsError(f"{target} is the input, which the overlay would replace; give another --overlay")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, but the overlay is a video; give another name")
    folder = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise unwritable(folder, errno.EACCES if folder.is_dir() else errno.ENOTDIR)
    if target.exists() and outputs.options.resume != "overwrite" and not _is_recorded(outputs):
        raise SettingsError(f"{target} exists and no run of fcnseg made it; use --overwrite to replace it")


def _is_recorded(outputs: Outputs) -> bool:
    for path in outputs.records.glob(LEDGERS):
        with SqliteLedger(path, outputs.folder, reading=True) as ledger:
            if ledger.fact("overlay_video"):
                return True
    return False


def write_overlay_video(source: Source, outputs: Outputs, ledger: Ledger, on_note: Callable[[str], None]) -> None:
    """Write the overlay video whole, unless it is there and of these very label maps.

    One process at a time does; `on_note` is told of a wait for another. Raises OutputError if it cannot be written.
    """
    target = outputs.options.overlay_video
    assert target
    with held(outputs.records / LOCK, "it writes the overlay video", on_note):
        content = _content(source, outputs, ledger)
        *known, made_of = ledger.fact("overlay_video") or (relative_path(ledger.folder, str(target)), -1, "", 0, "")
        if made_of == content and is_intact(ledger.folder, RecordedOutput(*known)):
            return
        ledger.note(overlay_video=[*known, ""])  # it is known for a run's own before it is there
        try:
            make_durable_folder(target.absolute().parent)
            with tempfile.TemporaryFile(dir=outputs.records) as file:
                _encode(file, source, outputs, ledger, on_note)
                file.seek(0)
                output = write_whole(target, iter(lambda: file.read(BLOCK_BYTES), b""))
            flush_folder(target.absolute().parent)
        except OSError as error:
            raise OutputError(
                f"cannot write {target}: {error.strerror or error}; mend this and run the same command again"
            ) from error
        ledger.note(overlay_video=[*recorded(ledger.folder, output), content])


def remove_overlay_video(ledger_file: Path, outputs: Outputs) -> None:
    """Remove the overlay video that a ledger tells of, if it is where this run's goes and as it was written."""
    target = outputs.options.overlay_video
    if target is None:
        return
    with suppress(OutputError), SqliteLedger(ledger_file, outputs.folder, reading=True) as ledger:
        *known, _ = ledger.fact("overlay_video") or (None,)
        if known and is_intact(ledger.folder, RecordedOutput(*known)):
            path = Path(absolute_path(ledger.folder, known[0]))
            if path.absolute() == target.absolute():
                path.unlink()


def _frames(source: Source, ledger: Ledger) -> Iterator[tuple[LabelledFrame, str]]:
    """Yield the frames with their label maps, and the checksums of these."""
    references = (listed for listed in source if isinstance(listed, Reference))
    for group in chunks(references, LOOKED_UP_AT_ONCE):
        rows = ledger.rows([reference.key for reference in group])
        for reference in group:
            row = rows.get(reference.key)
            files = {output.path: output.checksum for output in row.outputs} if row and row.state == "done" else {}
            name = f"{reference.stem}.png"
            labels = Path(absolute_path(ledger.folder, name)) if name in files else None
            yield LabelledFrame(reference, labels), files.get(name, "")


def _content(source: Source, outputs: Outputs, ledger: Ledger) -> str:
    """Return a digest of all that the video follows from."""
    digest = new_digest()
    digest.update(f"{outputs.options.opacity}\0".encode())
    for frame, checksum in _frames(source, ledger):
        digest.update(os.fsencode(f"{frame.reference.key}\0{source.fingerprint(frame.reference)}\0{checksum}\0"))
    return digest.hexdigest()


def _encode(file: IO[bytes], source: Source, outputs: Outputs, ledger: Ledger, on_note: Callable[[str], None]) -> None:
    from fcnseg.io.video_encoder import VideoEncoder  # PyAV, for runs over videos alone
    from fcnseg.io.video_frames import VideoFrames, upright
    from fcnseg.io.video_index import index_video

    options, (space,) = outputs.options, outputs.heads.values()
    path = str(options.source)
    with closing(VideoFrames(path, index_video(path), options.every or 1)) as frames, VideoEncoder(file) as encoder:
        for each, _ in _frames(source, ledger):
            try:
                frame = frames.frame(each.reference.location.number)
            except ImageError:
                continue
            pixels = _drawn(upright(frame), each.labels, space, options.opacity)
            if not encoder.add(pixels, frame):
                height, width = pixels.shape[:2]
                on_note(f"{each.reference.key} is {width} x {height}, unlike the first; it is not in the overlay video")


def _drawn(pixels: Pixels, labels: Path | None, space: LabelSpace, opacity: float) -> Pixels:
    if labels is None:
        return pixels
    with Image.open(labels) as image:
        return overlay(pixels, np.asarray(image).astype(np.uint16), space, opacity)
