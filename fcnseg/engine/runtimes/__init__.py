"""The libraries that run compiled engines, a row each; PyTorch runs networks as they are and needs none."""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True)
class Runtime:
    """A library that compiles graphs to engine files and runs these.

    `package` is the distribution that brings it, `device` what it runs on ("cpu" or "cuda"),
    `fixed_sizes`: an engine takes the range of sizes it was built for, else any. `compiler` names a function that takes
    a GraphSource, an EngineIdentity and the outputs of each file to write, and returns what it was `Compiled` of;
    `engine` a class that takes a recipe, a file, an EngineInfo, the file's `sha256` and
    `probabilities`, and is an `Engine`. `version` names a function that returns the version of `package`, which engines
    depend on; `check` one that raises EngineError if engines of `package` can be neither built nor run on this machine.
    All are imported when first used.
    """

    package: str
    device: str
    precisions: tuple[str, ...]
    compiler: str
    engine: str
    fixed_sizes: bool = False
    version: str = "importlib.metadata:version"
    check: str | None = None

    def load_compiler(self) -> Any:
        """Import the compiler."""
        return resolve_name(self.compiler)

    def load_engine(self) -> Any:
        """Import the engine's class."""
        return resolve_name(self.engine)

    def installed_version(self) -> str:
        """Return the library's version. Raises EngineError or PackageNotFoundError if it is not installed."""
        return str(resolve_name(self.version)(self.package))

    def check_machine(self) -> None:
        """Raise EngineError if nothing can be built or run here."""
        if self.check:
            resolve_name(self.check)(self.package)


_TENSORRT = (
    "cuda",
    ("fp32", "bf16", "fp16", "int8"),
    "fcnseg.engine.runtimes.tensorrt.compile:compile_engines",
    "fcnseg.engine.runtimes.tensorrt.engine:TensorRTEngine",
    True,
    "fcnseg.engine.runtimes.tensorrt.library:library_version",
    "fcnseg.engine.runtimes.tensorrt.library:check_library",
)

RUNTIMES = {
    "openvino": Runtime(
        "openvino",
        "cpu",
        ("fp32", "bf16", "int8"),
        "fcnseg.engine.runtimes.openvino:compile_engines",
        "fcnseg.engine.runtimes.openvino:OpenVINOEngine",
    ),
    "tensorrt": Runtime("tensorrt", *_TENSORRT),
    "tensorrt-rtx": Runtime("tensorrt-rtx", *_TENSORRT),
}
