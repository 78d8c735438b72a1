"""`fcnseg doctor`: the hardware and libraries of this machine, the engines it can run, and what is missing."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnseg.cli.console import out, shown
from fcnseg.cli.options import AsJson
from fcnseg.cli.progress import busy, interruptible

if TYPE_CHECKING:
    from fcnseg.engine.machine import Backend, Library, Machine
    from fcnseg.plugins import InspectedPlugin

NAMES = {"tensorrt_rtx": "tensorrt-rtx"}


@dataclass(frozen=True)
class DiskUse:
    """A folder that may not exist yet, the bytes in it, and those left on its disk."""

    path: Path
    size_bytes: int
    free_bytes: int


@interruptible()
def doctor(as_json: AsJson = False) -> None:
    """Show processor, memory, GPUs and libraries of this machine, the engines that can run here, and plug-ins.

    What is missing is named with the one command that installs it. `runs` are the precisions a backend runs here,
    `builds` those it can only build, for another machine.

    \b
    Examples:
      fcnseg doctor
      fcnseg doctor --json
    """
    import fcnseg
    from fcnseg.engine.cache import recorded_failures
    from fcnseg.engine.machine import backends, inspect_machine
    from fcnseg.engine.select import choose_backend
    from fcnseg.io.user_folders import engine_folder
    from fcnseg.plugins import inspect_plugins
    from fcnseg.weights.store import store_folder

    with busy("looking at this machine"):
        machine = inspect_machine()
        listed = backends(machine)
        backend, why = choose_backend("auto", "auto", "auto")
        installed = inspect_plugins()
    failed = [(f"{model} {name}", f"could not be built: {reason}") for model, name, reason in recorded_failures()]
    folders = {"engines": inspect_folder(engine_folder()), "weights": inspect_folder(store_folder())}
    if as_json:
        document = {
            "fcnseg": fcnseg.__version__,
            "machine": asdict(machine),
            "backends": [asdict(b) for b in listed],
            "auto": {"backend": backend, "why": why},
            "failed": dict(failed),
            "folders": {name: asdict(folder) for name, folder in folders.items()},
            "plugins": [asdict(plugin) for plugin in installed],
        }
        out().print_json(json.dumps(document, default=str), ensure_ascii=True)
        return
    _say("fcnseg", [("version", fcnseg.__version__), ("python", machine.python), ("system", machine.system)])
    _say("machine", _machine(machine))
    _say("libraries", [(NAMES.get(name, name), _library(lib)) for name, lib in machine.libraries.items()])
    _say("engines", [*((b.name, _backend(b)) for b in listed), ("auto picks", f"{backend}: {why}"), *failed])
    if installed:
        _say("plug-ins", [(f"{each.kind} {each.name}", _plugin(each)) for each in installed])
    _say("folders", [(name, _folder(folder)) for name, folder in folders.items()])
    missing = [(b.name, f"{b.install}  ({b.missing})") for b in listed if b.install]
    _say("to install what is missing", missing or [("nothing", "everything is here")])


def inspect_folder(path: Path) -> DiskUse:
    """Measure a folder's files, and the free space where it is or would be; what cannot be read counts as none."""
    size = free = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with suppress(OSError):
                size += os.lstat(Path(folder, file)).st_size
    with suppress(OSError, StopIteration):
        free = shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.is_dir())).free
    return DiskUse(path, size, free)


# ---------------------------------------------------------------------- what is shown


def _say(title: str, lines: list[tuple[str, str]]) -> None:
    """Print a section: its title, then names and values in two columns."""
    width = max(len(name) for name, _ in lines)
    out().print(title, style="bold", markup=False)
    for name, value in lines:
        out().print(f"  {name:<{width}}  {value}", markup=False)
    out().print()


def _machine(machine: Machine) -> list[tuple[str, str]]:
    cores = f"{machine.cores} of {machine.logical_cores}" if machine.cores < machine.logical_cores else machine.cores
    lines = [
        ("processor", f"{machine.cpu}, {cores} cores usable"),
        ("arithmetic", ", ".join(machine.features) or "not told by this system"),
        ("memory", f"{_bytes(machine.memory_bytes)}, {_bytes(machine.free_memory_bytes)} free"),
    ]
    for gpu in machine.gpus:
        capability = f", compute capability {gpu.capability}" if gpu.capability else ""
        bf16 = ", bf16" if gpu.bf16 else ""
        lines.append((gpu.device, f"{gpu.name}, {_bytes(gpu.memory_bytes)}{capability}{bf16}"))
    if not machine.gpus:
        torch = "cannot use it" if machine.libraries["torch"].works else "is not here to use it"
        lines.append(("GPU", f"an NVIDIA driver is loaded, but torch {torch}" if machine.driver else "none"))
    return lines


def _library(library: Library) -> str:
    if library.version is None:
        return "not installed"
    return library.version if library.problem is None else f"{library.version}, does not import: {library.problem}"


def _backend(backend: Backend) -> str:
    parts: list[Any] = []
    if backend.runs:
        parts.append(f"runs {', '.join(backend.runs)}")
    if backend.builds:
        parts.append(f"only builds {', '.join(backend.builds)}")
    if backend.missing:
        parts.append(backend.missing)
    return "; ".join(parts)


def _plugin(plugin: InspectedPlugin) -> str:
    problem = f": {plugin.problem}" if plugin.problem else ""
    return f"{plugin.package} {plugin.version}{problem}"


def _folder(folder: DiskUse) -> str:
    return f"{shown(str(folder.path))}: {_bytes(folder.size_bytes)} used, {_bytes(folder.free_bytes)} free"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
