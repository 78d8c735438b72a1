"""Engines: networks compiled for a device, verified before they are used.

The way of an engine, file by file: `options` (what a user states) -> `select` (a backend and precisions) -> `request`
(one frozen value, with the `identity` of the engine) -> `build` (from the cache, found by `lookup`, else by a
subprocess) -> `builder` (`graph`, `export`, `precision`, a runtime's compiler, `verify`, `record`) -> `load` -> `open`.
"""
