"""Writing one prediction to all sinks, and telling errors of the output as a whole from those of one image."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from fcnseg.errors import ImageError, OutputError
from fcnseg.types import Frame, Output, Prediction, Sink

FATAL = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENODEV, errno.ESTALE}
)
"""Errors of the output as a whole: going on would only fail again."""


def write(sinks: Iterable[Sink], frame: Frame, prediction: Prediction) -> tuple[Output, ...]:
    """Encode a prediction and place the files, sink after sink; nothing is placed if one of them refuses the image.

    Raises ImageError (stage "write") if this image's files cannot be written, OutputError if none could.
    """
    try:
        encoded = [(sink.storage, *file) for sink in sinks for file in sink.encode(frame, prediction)]
        return tuple(storage.place(name, content) for storage, name, content in encoded)
    except OSError as error:
        if error.errno not in FATAL:
            raise ImageError(error.strerror or str(error), "write") from error
        where = f" ({error.filename})" if error.filename else ""
        raise OutputError(
            f"cannot write the output of {frame.key}: {error.strerror}{where}; "
            "files written so far are whole, mend this and run the same command again"
        ) from error
