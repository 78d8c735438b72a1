"""Starting over: the outputs and records of earlier runs in shards are deleted, as far as manifests tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fcnseg.io.buckets import Bucket, open_store
from fcnseg.io.waiting import map_ahead
from fcnseg.running.options import RunOptions
from fcnseg.running.sharded.manifest import READERS, Manifest, finished
from fcnseg.running.sharded.places import ENTRIES, MANIFESTS, PLAN, RUN, SUMMARY, Shard
from fcnseg.running.sharded.plan import newest_generation


def start_over(bucket: Bucket, options: RunOptions) -> None:
    """Delete what the manifests record below the places of this run, then the records; the lease stays.

    Outputs of shards that have no manifest stay, and are replaced where the inputs are the same.
    """
    places = [str(place) for place in options.places.values()]
    newest = newest_generation(bucket)
    for number in range(1, newest.number + 1 if newest else 1):
        for shard in finished(bucket, number):
            manifest = Manifest(bucket, Shard(number, shard))
            paths = manifest.metadata.get("archives") or [
                output.path for _, row in manifest.rows() for output in row.outputs
            ]
            for place in places:
                store = open_store(place, options.storage_options)
                _delete(store, _keys_below(str(bucket.url), paths, store.url))
    _delete(bucket, [RUN, SUMMARY])  # first: without it, nothing of the rest counts
    for prefix in (PLAN, MANIFESTS, ENTRIES):
        _delete(bucket, [found.key for found in bucket.list(prefix)])


def _keys_below(folder: str, paths: Iterable[str], place: str) -> Iterator[str]:
    """Yield the keys, in a place, of recorded paths that lie in it and lead nowhere else: anybody may have written
    them."""
    for path in paths:
        url = path if "://" in path else f"{folder}/{path}"
        key = url.removeprefix(f"{place}/")
        if key != url and not {"..", "", ".", ".fcnseg"} & set(key.split("/")):
            yield key


def _delete(bucket: Bucket, keys: Iterable[str]) -> None:
    for _ in map_ahead(bucket.delete, keys, READERS):
        pass
