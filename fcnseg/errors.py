"""The errors that a user can meet.

    FcnsegError                  exit code 1: it could not be done
    |-- SettingsError            exit code 2: the command, its options or a recipe are at fault
    |   |-- RecipeError          a recipe file is invalid (all its faults at once)
    |   |-- UnknownModelError    no model of that name
    |   |-- WeightsMismatchError weights that belong to another model
    |   `-- LabelsError          label maps that cannot be compared: names, sizes or values that disagree
    |-- SourceError              the inputs as a whole cannot be read
    |-- ImageError               one image cannot be decoded, predicted or written: becomes a record, never ends a run
    |   `-- TooLargeError        it does not fit the engine's range or the memory: smaller batches or tiles may
    |-- OutputError              the outputs cannot be written
    |-- WeightsError             a weight file is unreadable, truncated or foreign
    |-- DownloadError            a file could not be fetched
    |-- EngineError              a model cannot run on this device or with these settings
    |   `-- DeviceError          the device's driver, memory or kind is the reason: another time it may
    |-- TrainingError            training cannot go on
    |   `-- DivergedError        its loss, gradient or weights are not finite
    |-- StorageError             object storage cannot be read or written; ends a run, which goes on from there
    |   |-- NoObjectError        an object that is not there
    |   |-- ObjectExistsError    a conditional write came second
    |   |-- UnusableKeyError     a key that storages or their clients do not take
    |   |-- NoBucketError        a bucket that is not there, or no longer
    |   |-- StorageDeniedError   a request that these credentials do not allow
    |   |-- CredentialsError     credentials that are absent, wrong or have expired
    |   `-- StorageBusyError     no answer, or only refusals for the load, for as long as requests are repeated
    `-- NoMoreThreadsError       threads or processes cannot be started

Messages have one form, "what was found; what to do", and fit on one line.
"""

from __future__ import annotations

import errno
import re
from importlib.util import find_spec


class FcnsegError(Exception):
    """Something could not be done; `str(error)` is one line that says what and what to do."""

    exit_code = 1


class SettingsError(FcnsegError):
    """The command, an option or a recipe is at fault."""

    exit_code = 2


class RecipeError(SettingsError):
    """A recipe is invalid. The message names the file, each key, and what is allowed there."""


class UnknownModelError(SettingsError):
    """No recipe of that name; the message suggests the nearest."""


class WeightsMismatchError(SettingsError):
    """Weights whose tensors do not fit the network. `faults` holds one line a tensor."""

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class LabelsError(SettingsError):
    """Label maps that cannot be compared, or not as asked: names, sizes or values that disagree, unreadable files."""


class SourceError(FcnsegError):
    """The inputs as a whole (a folder, a list) cannot be read or hold nothing."""


class ImageError(FcnsegError):
    """One image cannot be decoded, predicted or written. `stage` is "load", "predict" or "write"."""

    def __init__(self, message: str, stage: str = "load") -> None:
        super().__init__(message)
        self.stage = stage


class TooLargeError(ImageError):
    """An image, or a batch, does not fit the engine's range of sizes or the device's memory."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "predict")


class OutputError(FcnsegError):
    """The outputs cannot be written: no permission, no space, a file where a folder should be."""


class WeightsError(FcnsegError):
    """A weight file is missing, unreadable, truncated or of a foreign format."""


class DownloadError(FcnsegError):
    """A file could not be fetched; the message says where to put it by hand."""


class EngineError(FcnsegError):
    """The device, precision or memory does not allow a model to run."""


class DeviceError(EngineError):
    """The device's driver, its free memory or its kind is the reason: nothing is wrong with the engine."""


class TrainingError(FcnsegError):
    """Training cannot go on: the loss is no number, or memory ran out."""


class StorageError(FcnsegError):
    """Object storage cannot be read or written. No image has failed by it: the same command goes on later.

    `transient`: it may pass by itself, so that the work in hand is worth another try.
    """

    transient = False


class NoObjectError(StorageError):
    """An object is not there."""


class ObjectExistsError(StorageError):
    """A write that is made only if there is no object, or still the same one, came second."""


class UnusableKeyError(StorageError):
    """A key that the storage or its client does not take: with control characters, empty parts or dots."""


class NoBucketError(StorageError):
    """A bucket is not there, or no longer."""


class StorageDeniedError(StorageError):
    """The credentials do not allow a request."""


class CredentialsError(StorageError):
    """Credentials are absent or wrong, or have expired and could not be renewed."""


class StorageBusyError(StorageError):
    """The storage did not answer, or refused for its load, as long as requests are repeated."""

    transient = True


class DivergedError(TrainingError):
    """The loss, the gradient, the weights or the scores of a training are not finite."""


class NoMoreThreadsError(FcnsegError):
    """The system allows no more threads or processes."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or NO_MORE_THREADS)


NO_MORE_THREADS = (
    "the system allows no more threads or processes; use fewer --workers, or raise the limit: `ulimit -u`, "
    "`ulimit -v`, or the container's"
)

_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|bad[ _]alloc|(can't|cannot|could not( be)?|failed to|unable to) alloc|allocation failed|"
    "insufficient memory|memory is insufficient",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException | str) -> bool:
    """Recognise exhausted memory, of the machine or a GPU, in the words of Python, torch, CUDA, OpenVINO and TensorRT.

    Most libraries raise RuntimeError for it as for everything else, so that only the message tells.
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, not imported here
    return named or _OUT_OF_MEMORY.search(str(error)) is not None


_OUT_OF_THREADS = re.compile(
    r"can't start new thread|resource temporarily unavailable|(failed|unable|cannot) to create (a )?thread|"
    "pthread_create",
    re.IGNORECASE,
)


def is_out_of_threads(error: BaseException | str) -> bool:
    """Recognise the failure to start a thread or process, for want of numbers or of memory for its stack, in the words
    of Python, C++ and OpenMP."""
    if isinstance(error, OSError):  # of fork: it names no file, as errors of reading do
        return error.errno in (errno.EAGAIN, errno.ENOMEM) and error.filename is None
    return _OUT_OF_THREADS.search(str(error)) is not None


OPTIONAL = {
    "matplotlib": ("matplotlib", "scipy"),
    "cv2": ("opencv-python-headless",),
    "nncf": ("nncf",),
    "obstore": ("obstore", "pyarrow"),
    "pyarrow": ("pyarrow",),
    "ray": ("obstore", "pyarrow", "ray"),
    "pycocotools": ("pycocotools",),
    "pillow_heif": ("pillow-heif",),
    "scipy": ("scipy",),
    "tensorboardX": ("tensorboardx", "torch"),
    "torch": ("tensorboardx", "torch"),
}
"""Packages that some commands need, by the names of their modules, with those that go with them: see pyproject.toml."""


def require(*modules: str) -> None:
    """Raise SettingsError unless these optional modules are installed. They are not imported."""
    if lacking := [name for name in modules if find_spec(name) is None]:
        packages = sorted({package for name in lacking for package in OPTIONAL[name]})
        raise SettingsError(f"this needs {' and '.join(packages)}; {installs(*packages)}")


def installs(*packages: str) -> str:
    """Say how packages that are not installed are got: by their own names, which holds wherever fcnseg is from."""
    return f"`pip install {' '.join(packages)}` installs {'it' if len(packages) == 1 else 'them'}"
