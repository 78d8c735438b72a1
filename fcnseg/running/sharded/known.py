"""Inputs of earlier generations, by hashes: which of a listing's inputs ended, and with which fingerprint.

A million inputs take 17 MB: of each only two 64-bit hashes and its state are kept. Two inputs with one hash of their
keys would also need one hash of their fingerprints to be taken for each other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fcnseg.io.buckets import Bucket
from fcnseg.running.sharded.manifest import Manifest, finished
from fcnseg.running.sharded.places import Shard

DONE, FAILED = 1, 2
NEITHER = 0
"""The state of an input that has not ended, or has another fingerprint."""


def digest(key: str, fingerprint: str) -> tuple[int, int]:
    """Return 64-bit hashes of a key and of a fingerprint: the same on every machine."""
    both = (
        hashlib.blake2b(os.fsencode(key), digest_size=8).digest()
        + hashlib.blake2b(os.fsencode(fingerprint), digest_size=8).digest()
    )
    return int.from_bytes(both[:8], "little", signed=True), int.from_bytes(both[8:], "little", signed=True)


class ListingDigest:
    """A digest of keys and fingerprints in whatever order."""

    def __init__(self) -> None:
        self._sum, self.count = 0, 0

    def add(self, hashes: tuple[int, int]) -> None:
        """Add an input by its `digest`."""
        mixed = hashlib.blake2b(b"%d %d" % hashes, digest_size=16).digest()
        self._sum, self.count = (self._sum + int.from_bytes(mixed, "big")) % (1 << 128), self.count + 1

    def __str__(self) -> str:
        return f"{self.count}-{self._sum:032x}"


class EndedInputs:
    """The inputs that ended in some generations; of an input that ended twice, the later end counts."""

    def __init__(self) -> None:
        self._keys = self._fingerprints = np.empty(0, np.int64)
        self._states = np.empty(0, np.uint8)

    @classmethod
    def read(cls, bucket: Bucket, generations: int) -> EndedInputs:
        """Read the manifests of the first so many generations."""
        ended = cls()
        for generation in range(1, generations + 1):
            hashes: list[tuple[int, int]] = []
            states: list[int] = []
            for number in sorted(finished(bucket, generation)):
                for key, row in Manifest(bucket, Shard(generation, number)).rows():
                    hashes.append(digest(key, row.fingerprint or ""))
                    states.append(DONE if row.state == "done" else FAILED)
            ended.add(hashes, states)
        return ended

    def add(self, hashes: Iterable[tuple[int, int]], states: Sequence[int]) -> None:
        """Add inputs that ended later than those added before."""
        new = np.array(list(hashes), np.int64).reshape(-1, 2)
        keys = np.concatenate([self._keys, new[:, 0]])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        last = np.append(keys[1:] != keys[:-1], True) if len(keys) else np.empty(0, bool)
        self._keys = keys[last]
        self._fingerprints = np.concatenate([self._fingerprints, new[:, 1]])[order][last]
        self._states = np.concatenate([self._states, np.array(states, np.uint8)])[order][last]

    def __len__(self) -> int:
        return len(self._keys)

    def states(self, hashes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        """Return DONE, FAILED or NEITHER for each of some inputs, by their keys and fingerprints."""
        asked = np.array(hashes, np.int64).reshape(-1, 2)
        if not len(self._keys):
            return np.zeros(len(asked), np.uint8)
        at = np.minimum(np.searchsorted(self._keys, asked[:, 0]), len(self._keys) - 1)
        same = (self._keys[at] == asked[:, 0]) & (self._fingerprints[at] == asked[:, 1])
        return np.where(same, self._states[at], NEITHER).astype(np.uint8)
