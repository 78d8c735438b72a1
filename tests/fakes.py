"""Real, small implementations of the protocols, for tests of what stands between them."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fcnseg.errors import ImageError
from fcnseg.io.names import plain
from fcnseg.io.storage import LocalFolder
from fcnseg.labels import LabelSpace, voc_color
from fcnseg.types import (
    EngineInfo,
    Failure,
    Frame,
    Labels,
    LedgerRow,
    OutputName,
    Pixels,
    Prediction,
    Probabilities,
    RecordedOutput,
    Reference,
    Reserve,
    Settled,
)


class RedEngine:
    """Labels a pixel by the top two bits of its red; refuses images wider than `widest_px`."""

    def __init__(self, widest_px: int = 10_000, max_batch: int = 1) -> None:
        self.widest_px = widest_px
        self.seen: list[tuple[int, ...]] = []
        space = LabelSpace(("a", "b", "c", "d"), tuple(voc_color(i) for i in range(4)))
        self.info = EngineInfo(
            "fake", "cpu", "fp32", "red", "0", {"labels": space}, ("color",), {}, max_batch=max_batch
        )

    def infer(
        self, inputs: Mapping[str, Pixels], probabilities: bool = False
    ) -> tuple[dict[str, Labels], dict[str, Probabilities] | None]:
        pixels = inputs["color"]
        self.seen.append(pixels.shape)
        if pixels.shape[2] > self.widest_px:
            raise ImageError("too wide", "predict")
        labels = pixels[..., 0] >> 6
        one_hot = np.moveaxis(np.eye(4, dtype=np.float32)[labels], -1, 1)
        return {"labels": labels}, {"labels": one_hot} if probabilities else None

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemorySource:
    """Random images under given keys, made when loaded; those in `broken` cannot be, `sizes` are (height, width)."""

    def __init__(
        self,
        keys: Iterable[str],
        broken: Mapping[str, Exception] | None = None,
        sizes: Mapping[str, tuple[int, int]] | None = None,
        unlisted: Iterable[Failure] = (),
    ) -> None:
        self.keys, self.broken, self.sizes, self.unlisted = list(keys), broken or {}, sizes or {}, list(unlisted)
        self.fingerprints: dict[str, str] = {}
        self.loaded: list[str] = []
        self.in_memory = self.most_in_memory = 0

    def __iter__(self) -> Iterator[Reference | Failure]:
        yield from self.unlisted
        for key in self.keys:
            yield Reference(key, key.rpartition(".")[0] or key, "", None)

    def fingerprint(self, reference: Reference) -> str:
        return self.fingerprints.get(reference.key, "1")

    def pixels(self, key: str) -> Pixels:
        height, width = self.sizes.get(key, (4, 6))
        seed = int.from_bytes(key.encode("utf-8", "surrogateescape"), "big")
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    def load(self, reference: Reference, reserve: Reserve = lambda nbytes: None) -> Frame:
        self.loaded.append(reference.key)
        if reference.key in self.broken:
            raise self.broken[reference.key]
        height, width = self.sizes.get(reference.key, (4, 6))
        reserve(height * width * 3)
        return Frame(reference.key, reference.stem, {"color": self.pixels(reference.key)})

    def close(self) -> None:
        pass


class RawSink:
    """Label maps as raw bytes, a file each; raises `refuse[stem]` instead, once. `written` lists stems."""

    names = (OutputName("", ".raw"),)

    def __init__(self, folder: Path, refuse: Mapping[str, BaseException] | None = None) -> None:
        self.storage, self.refuse = LocalFolder(folder), dict(refuse or {})
        self.written: list[str] = []
        self._lock = threading.Lock()

    def encode(self, frame: Frame, prediction: Prediction) -> Iterator[tuple[str, Iterable[bytes]]]:
        with self._lock:
            error = self.refuse.pop(frame.stem, None)
            self.written.append(frame.stem)
        if error:
            raise error
        yield f"{frame.stem}.raw", [prediction.labels["labels"].tobytes()]


class MemoryLedger:
    """A ledger in the memory of this process. Handles of one `MemoryLedger` share it: there is nothing to open."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = str(folder)
        self._rows: dict[str, LedgerRow] = {}
        self._facts: dict[str, str] = {}
        self._alive: set[str] = set()
        self._numbers = count()
        self._lock = threading.RLock()

    @contextmanager
    def new_claimant(self) -> Iterator[str]:
        name = f"memory-{next(self._numbers)}"
        self._alive.add(name)
        try:
            yield name
        finally:
            self._alive.discard(name)

    def describe(self, claimant: str) -> str:
        return f"{claimant}; let it end"

    def is_alive(self, claimant: str) -> bool:
        return claimant in self._alive

    def dead_claimants(self) -> list[str]:
        return []

    def forget(self, claimants: Iterable[str]) -> None:
        pass

    def rows(self, keys: Sequence[str]) -> dict[str, LedgerRow]:
        with self._lock:
            return {key: self._rows[key] for key in keys if key in self._rows}

    def claim(self, keys: Iterable[str], claimant: str, seen: Mapping[str, LedgerRow]) -> list[str]:
        claimed = []
        with self._lock:
            for key in keys:
                row = self._rows.get(key)
                if row is None and key not in seen:
                    self._rows[key] = LedgerRow("claimed", claimant, 1, None, None, None, [])
                elif row and key in seen and row[:3] == seen[key][:3]:
                    self._rows[key] = row._replace(
                        state="claimed", claimant=claimant, attempts=row.attempts + 1, outputs=[]
                    )
                else:
                    continue
                claimed.append(key)
        return claimed

    def settle(self, settled: Iterable[Settled]) -> None:
        with self._lock:
            for end in settled:
                before = self._rows.get(end.key)
                stage, reason = (end.failure.stage, end.failure.reason) if end.failure else ("", "")
                state = "failed" if end.failure else "done"
                attempts = before.attempts if before else 0
                self._rows[end.key] = LedgerRow(
                    state, None, attempts, stage, plain(reason), end.fingerprint, list(end.outputs)
                )

    def release(self, claimant: str) -> None:
        with self._lock:
            for key, row in list(self._rows.items()):
                if (row.state, row.claimant, row.attempts) == ("claimed", claimant, 1):
                    del self._rows[key]

    def in_flight(self) -> dict[str, list[str]]:
        claimed: dict[str, list[str]] = {}
        with self._lock:
            for key, row in self._rows.items():
                if row.state == "claimed" and row.claimant:
                    claimed.setdefault(row.claimant, []).append(key)
        return claimed

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(Counter(row.state for row in self._rows.values()))

    def _in_state(self, state: str) -> list[tuple[str, LedgerRow]]:
        with self._lock:
            found = [(key, row) for key, row in self._rows.items() if row.state == state]
        return sorted(found, key=lambda pair: os.fsencode(pair[0]))

    def failures(self) -> Iterator[Failure]:
        for key, row in self._in_state("failed"):
            yield Failure(key, row.stage or "", row.reason or "")

    def outputs(self) -> Iterator[Sequence[RecordedOutput]]:
        for _, row in self._in_state("done"):
            yield row.outputs

    def fact(self, name: str) -> Any:
        with self._lock:
            return json.loads(self._facts.get(name, "null"))

    def note(self, **facts: Any) -> None:
        with self._lock:
            self._facts |= {name: json.dumps(value) for name, value in facts.items()}

    def agree(self, **facts: Any) -> dict[str, Any]:
        with self._lock:
            for name, value in facts.items():
                self._facts.setdefault(name, json.dumps(value))
            return {name: self.fact(name) for name in facts}
