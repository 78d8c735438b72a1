"""Load TensorRT or TensorRT-RTX: one code path for both, and for TensorRT 10 and 11.

Almost nothing in these libraries raises: the last errors that they logged are kept for the error that follows.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fcnseg.errors import EngineError, installs

MODULES = {"tensorrt": ("tensorrt", "TensorRT"), "tensorrt-rtx": ("tensorrt_rtx", "TensorRT-RTX")}
"""Each library's module and its name in messages."""

REASON_CHARACTERS = 500
"""The most that an error repeats of a library's messages."""


@dataclass(frozen=True)
class TensorRTLibrary:
    """A loaded library: its module, and the one logger that it takes in a process."""

    title: str
    module: Any
    logger: Any
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=4))

    def reason(self) -> str:
        """Return the library's last error messages on one line, oldest first, and forget them."""
        text = "; ".join(dict.fromkeys(self.errors)) or "it gave no reason"
        self.errors.clear()
        return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]}..."


_loaded: dict[str, TensorRTLibrary] = {}
_loading = threading.Lock()


def load_library(name: str) -> TensorRTLibrary:
    """Return the library "tensorrt" or "tensorrt-rtx", imported when first asked for.

    Raises EngineError, naming the extra that brings it, if it is not installed or does not load.
    """
    with _loading:
        if name not in _loaded:
            module_name, title = MODULES[name]
            try:
                module = importlib.import_module(module_name)
            except (ImportError, OSError) as error:
                raise EngineError(f"{title} cannot be loaded ({error}); {installs(name)}") from error
            errors: deque[str] = deque(maxlen=4)
            _loaded[name] = TensorRTLibrary(title, module, _logger(module, errors), errors)
        return _loaded[name]


def _logger(module: Any, errors: deque[str]) -> Any:
    log = logging.getLogger("fcnseg.tensorrt")

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                errors.append(" ".join(msg.split()))
            elif severity == module.ILogger.WARNING:
                log.debug("%s", msg)

    return Logger()
