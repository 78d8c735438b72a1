"""Engines: networks compiled for a device, verified before they are used.

The way of an engine, file by file: `options` (what a user states) -> `select` (a backend and precisions) -> `request`
(one frozen value, with the `identity` of the engine) -> `build` (from the cache, found by `lookup`, else by a
subprocess) -> `builder` (`graph`, `export`, `precision`, a runtime's compiler, `verify`, `record`) -> `load` -> `open`.
"""

import sys

# `import openvino` would load this module, which reports the import to a web analytics service and writes to the home
# folder. Without it OpenVINO goes on in silence. NNCF is told the same way.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
