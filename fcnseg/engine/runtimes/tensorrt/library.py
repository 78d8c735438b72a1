"""Load TensorRT or TensorRT-RTX: one code path for both, and for TensorRT 10 and 11.

Almost nothing in these libraries raises: the last errors and warnings that they logged are kept for the error that
follows.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fcnseg.engine.hardware import cuda_capability, cuda_of_driver
from fcnseg.engine.runtimes.tensorrt.packages import MODULES, package_for
from fcnseg.errors import DeviceError, EngineError, installs, is_out_of_memory

REASON_CHARACTERS = 500
"""The most that an error repeats of a library's messages."""

MESSAGES_KEPT = 8

NOTED = "Static Tensor Allocation failed", "LayerType: "
"""What is kept of verbose messages: that a plan will allocate memory while it runs, and descriptions of layers."""


def _messages() -> deque[str]:
    return deque(maxlen=MESSAGES_KEPT)


@dataclass(frozen=True)
class TensorRTLibrary:
    """A loaded library: its name as a backend, its module, and the one logger that it takes in a process.

    `errors` and `warnings` are its last messages, oldest first, `notes` those of its verbose ones that NOTED finds.
    """

    name: str
    module: Any
    errors: deque[str] = field(default_factory=_messages)
    warnings: deque[str] = field(default_factory=_messages)
    notes: list[str] = field(default_factory=list)
    logger: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "logger", _logger(self))

    @property
    def title(self) -> str:
        """Its name in messages."""
        return MODULES[self.name][1]

    @property
    def version(self) -> str:
        """The version that the module itself states: packages of several names bring it."""
        return str(self.module.__version__)

    def forget(self) -> None:
        """Forget the messages until now."""
        self.notes.clear()
        self.errors.clear()
        self.warnings.clear()

    def reason(self, *, warnings: bool = False) -> str:
        """Return the last error messages on one line, oldest first, after `warnings` if asked for, and forget all."""
        text = "; ".join(dict.fromkeys([*(self.warnings if warnings else ()), *self.errors])) or "it gave no reason"
        self.forget()
        return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]}..."

    def refusal(self, what: str, advice: str) -> EngineError:
        """Return the error for something that the library did not do, with its reason; DeviceError if memory is it."""
        memory = next((text for text in (*self.errors, *self.warnings) if is_out_of_memory(text)), None)
        kind = DeviceError if memory else EngineError
        reason = self.reason()
        if memory and memory not in reason:
            reason = f"{reason} ({memory})"
        return kind(f"{self.title} {what}: {reason}; {advice}")

    def builder(self) -> Any:
        """Make a Builder. Raises DeviceError, with the reason, where CUDA cannot start."""
        return self._made("Builder")

    def runtime(self) -> Any:
        """Make a Runtime. Raises DeviceError, with the reason, where CUDA cannot start."""
        return self._made("Runtime")

    def _made(self, kind: str) -> Any:
        self.forget()
        try:
            return getattr(self.module, kind)(self.logger)
        except (TypeError, RuntimeError) as error:  # TypeError: the factory gave null; why is only a warning
            driver = cuda_of_driver()
            state = (
                "no NVIDIA driver is loaded"
                if driver is None
                else "the NVIDIA driver is for CUDA {}.{}".format(*driver)
            )
            raise DeviceError(
                f"{self.title} {self.version} cannot start ({state}): {self.reason(warnings=True)}; update the driver, "
                f"or install what serves this one: `pip install {package_for(self.name)}`; or use --backend torch"
            ) from error


_loaded: dict[str, TensorRTLibrary] = {}
_loading = threading.Lock()


def load_library(name: str) -> TensorRTLibrary:
    """Return the library "tensorrt" or "tensorrt-rtx", imported when first asked for.

    Raises EngineError, naming the package that brings it, if it is not installed or does not load.
    """
    with _loading:
        if name not in _loaded:
            module_name, title = MODULES[name]
            try:
                module = importlib.import_module(module_name)
                if not hasattr(module, "Builder"):  # a folder that an uninstallation left behind
                    raise ImportError(f"{module_name} is an empty package")
            except (ImportError, OSError) as error:
                reason = " ".join(str(error).split())
                raise EngineError(f"{title} cannot be loaded ({reason}); {installs(package_for(name))}") from error
            _loaded[name] = TensorRTLibrary(name, module)
        return _loaded[name]


def library_version(name: str) -> str:
    """Return the version of "tensorrt" or "tensorrt-rtx". Raises EngineError, see `load_library`."""
    return load_library(name).version


def serves(name: str, capability: str) -> bool:
    """Tell whether a library builds engines for GPUs of that compute capability, like "8.9".

    TensorRT-RTX lists those that it does. True for an unknown one (""), and where the library cannot be asked.
    """
    if name != "tensorrt-rtx" or not capability:
        return True
    try:
        served = load_library(name).module.ComputeCapability.__members__
    except EngineError:
        return True  # what is wrong is said by whoever needs it
    return f"SM{capability.replace('.', '')}" in served


def check_library(name: str) -> None:
    """Check that a library starts here and serves the first GPU, if there is one, before anything is made for it.

    Raises EngineError, see `load_library`; DeviceError for a driver that is too old and a GPU that is not served.
    """
    library = load_library(name)
    capability = cuda_capability()
    if not serves(name, capability):
        raise DeviceError(
            f"{library.title} {library.version} does not serve GPUs of compute capability {capability}; "
            f"`pip install {package_for('tensorrt')}` installs TensorRT, which does, or use --backend torch"
        )
    library.builder()
    if capability:
        library.runtime()


def _logger(library: TensorRTLibrary) -> Any:
    log, logger = logging.getLogger("fcnseg.tensorrt"), library.module.ILogger
    errors, warnings, notes = library.errors, library.warnings, library.notes

    class Logger(logger):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            logger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity == logger.VERBOSE:  # thousands of them
                if any(text in msg for text in NOTED):
                    notes.append(msg)
                return
            text = " ".join(msg.split())
            if severity in (logger.ERROR, logger.INTERNAL_ERROR):
                errors.append(text)
            elif severity == logger.WARNING:
                warnings.append(text)
                log.debug("%s", text)

    return Logger()
