"""The loop: decode ahead in threads, predict, write behind; every input ends done or with a recorded failure."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from fcnseg.errors import ImageError, OutputError
from fcnseg.stream.sources import FileSource
from fcnseg.types import Engine, Failure, Frame, Prediction, Reference, Sink, Summary

WRITES_AHEAD = 4

FATAL_WRITES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENODEV, errno.ESTALE}
)
"""Errors of the output as a whole: going on would only fail again."""

OnResult = Callable[[str, Failure | None], None]


def process(
    source: FileSource,
    engine: Engine,
    sinks: Sequence[Sink],
    *,
    probabilities: bool = False,
    workers: int = 2,
    on_result: OnResult = lambda key, failure: None,
) -> Summary:
    """Run every image of `source` through `engine` into `sinks`, in the source's order.

    `workers` threads decode ahead. `on_result` hears of each input as it ends. An image that fails becomes a record;
    an output that cannot be written (no space, no permission) raises OutputError; Ctrl-C ends with what is whole and
    marks the summary interrupted.
    """
    summary = Summary(total=len(source))
    start = time.monotonic()

    def settle(key: str, failure: Failure | None) -> None:
        if failure:
            summary.failures.append(failure)
        else:
            summary.done += 1
        on_result(key, failure)

    for folder, reason in source.unlisted.items():
        summary.failures.append(Failure(folder, "list", reason))
        on_result(folder, summary.failures[-1])
    with ThreadPoolExecutor(workers, "decode") as decoders, ThreadPoolExecutor(1, "write") as writer:
        pending: deque[tuple[str, Future[None]]] = deque()
        try:
            for reference, decoded in _decode_ahead(source, decoders, workers + 1):
                try:
                    prediction = predict(engine, decoded.result(), probabilities)
                except ImageError as error:
                    settle(reference.key, Failure(reference.key, error.stage, str(error)))
                    continue
                pending.append((reference.key, writer.submit(_write, sinks, prediction)))
                while len(pending) > WRITES_AHEAD:
                    settle(*_written(*pending.popleft()))
            while pending:
                settle(*_written(*pending.popleft()))
        except KeyboardInterrupt:
            summary.interrupted = True
        finally:
            decoders.shutdown(wait=False, cancel_futures=True)
        for key, future in pending:
            settle(*_written(key, future))
    for sink in sinks:
        sink.close()
    summary.seconds = time.monotonic() - start
    return summary


def _decode_ahead(
    source: FileSource, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Reference, Future[Frame]]]:
    """Every reference with its image's future, at most `ahead` of them decoded beyond the one in hand."""
    references = iter(source)
    window = deque((r, pool.submit(source.load, r)) for r in islice(references, ahead))
    while window:
        yield window.popleft()
        window.extend((r, pool.submit(source.load, r)) for r in islice(references, 1))


def predict(engine: Engine, frame: Frame, probabilities: bool = False) -> Prediction:
    """What the engine says of one image. Raises ImageError if it cannot take it."""
    inputs = {modality: pixels[None] for modality, pixels in frame.inputs.items()}
    labels, values = engine.infer(inputs, probabilities)
    return Prediction(
        frame.key,
        {head: found[0] for head, found in labels.items()},
        {head: found[0] for head, found in values.items()} if values is not None else None,
    )


def _write(sinks: Sequence[Sink], prediction: Prediction) -> None:
    for sink in sinks:
        sink.write(prediction)


def _written(key: str, future: Future[None]) -> tuple[str, Failure | None]:
    """How a write ended. Raises OutputError if the output as a whole is at fault."""
    try:
        future.result()
    except OSError as error:
        if error.errno in FATAL_WRITES:
            where = f" ({error.filename})" if error.filename else ""
            raise OutputError(
                f"cannot write the output of {key}: {error.strerror}{where}; "
                "files written so far are whole, mend this and run the same command again"
            ) from error
        return key, Failure(key, "write", error.strerror or str(error))
    return key, None
