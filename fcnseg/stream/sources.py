"""Where images come from: a folder, one file, or a text file of paths; with depth or HHA images matched by name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath

from fcnseg.errors import ImageError, SettingsError, SourceError
from fcnseg.stream.decoding import EXTENSIONS, MAX_PIXELS, READERS
from fcnseg.types import Frame, Reference


class FileSource:
    """Images in files. `keys` maps each image's identity (path relative to the source) to its file.

    `companions` maps further modalities to folders whose files are matched by relative path, whatever the extension.
    `unlisted` holds the folders that could not be looked into, with the reason.
    """

    def __init__(
        self,
        keys: Mapping[str, Path],
        modality: str = "color",
        companions: Mapping[str, Path] | None = None,
        max_pixels: int = MAX_PIXELS,
        unlisted: Mapping[str, str] | None = None,
    ) -> None:
        self.keys, self.modality, self.max_pixels = keys, modality, max_pixels
        self.unlisted = unlisted or {}
        self.companions = {name: _Companions(name, folder) for name, folder in (companions or {}).items()}

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Reference]:
        for key, path in self.keys.items():
            yield Reference(key, {self.modality: path})

    def load(self, reference: Reference) -> Frame:
        """Decode one image and its companions. Raises ImageError if any is missing, broken or of another size."""
        files = dict(reference.files)
        for name, companions in self.companions.items():
            files[name] = companions.find(reference.key)
        inputs = {name: READERS[name](path, self.max_pixels) for name, path in files.items()}
        sizes = {name: pixels.shape[:2] for name, pixels in inputs.items()}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name} is {width} x {height}" for name, (height, width) in sizes.items())
            raise ImageError(f"{shown}; they must be of one size")
        return Frame(reference.key, inputs)


class _Companions:
    """The files of a second modality by relative path without extension; listed when first used."""

    def __init__(self, modality: str, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"the {modality} folder {folder} does not exist; give an existing folder")
        self.modality, self.folder = modality, folder

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for key, path in list_folder(self.folder).items():
            found[str(PurePosixPath(key).with_suffix(""))].append(path)
        return found

    def find(self, key: str) -> Path:
        stem = str(PurePosixPath(key).with_suffix(""))
        files = self._by_stem.get(stem, [])
        if len(files) != 1:
            many = f"{len(files)} {self.modality} images" if files else f"no {self.modality} image"
            raise ImageError(f"{many} named {stem} in {self.folder}; there must be one")
        return files[0]


def open_source(
    source: Path,
    modalities: tuple[str, ...] = ("color",),
    companions: Mapping[str, Path] | None = None,
    *,
    pattern: str | None = None,
    exclude: tuple[Path, ...] = (),
    max_pixels: int = MAX_PIXELS,
) -> FileSource:
    """The images of a folder (recursive), of one image file, or of the paths listed in a `.txt` file.

    `modalities` are what the model takes: the first comes from `source`, each further one from its folder in
    `companions`. `pattern` keeps the keys it matches, `exclude` names folders that are not entered. Raises
    SourceError for a source that is missing or holds no images, SettingsError for companions that do not fit.
    """
    companions = companions or {}
    main, *others = modalities
    for name in others:
        if name not in companions:
            raise SettingsError(f"this model also takes {name} images; give their folder with --{name} DIR")
    for name in companions:
        if name not in others:
            raise SettingsError(f"this model takes {' and '.join(modalities)} images only; leave out --{name}")
    if not source.exists():
        raise SourceError(f"{source} does not exist; give a folder, an image, or a text file of paths")
    unlisted: dict[str, str] = {}
    if source.is_dir():
        keys = list_folder(source, exclude, unlisted)
    elif source.suffix.lower() == ".txt":
        keys = read_list(source)
    else:
        keys = {source.name: source}
    if pattern is not None:
        keys = {key: path for key, path in keys.items() if fnmatch(key, pattern) or fnmatch(Path(key).name, pattern)}
    if not keys:
        what = f"no images match {pattern!r} in" if pattern else "there are no images in"
        raise SourceError(f"{what} {source}; images are files that end in {' '.join(sorted(EXTENSIONS))}")
    return FileSource(keys, main, companions, max_pixels, unlisted)


def list_folder(
    folder: Path, exclude: tuple[Path, ...] = (), unlisted: dict[str, str] | None = None
) -> dict[str, Path]:
    """The image files below a folder by relative path, sorted; hidden names are left out, symlinks are followed
    (each real folder once). A folder below that cannot be listed is noted in `unlisted` with the reason; without
    `unlisted`, or if `folder` itself cannot be listed, raises SourceError."""
    excluded = {_identity(path) for path in exclude if path.is_dir()}
    found: dict[str, Path] = {}
    _walk(folder, "", excluded | {_identity(folder)}, found.__setitem__, unlisted)
    return found


def _walk(
    folder: Path,
    prefix: str,
    seen: set[tuple[int, int]],
    add: Callable[[str, Path], None],
    unlisted: dict[str, str] | None,
) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if unlisted is not None and prefix:
            unlisted[prefix] = f"the folder cannot be listed: {error.strerror}"
            return
        raise SourceError(f"the folder {folder} cannot be listed: {error.strerror}; check its permissions") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            identity = _identity(Path(entry.path))
            if identity not in seen:
                seen.add(identity)
                _walk(Path(entry.path), f"{prefix}{entry.name}/", seen, add, unlisted)
        elif Path(entry.name).suffix.lower() in EXTENSIONS:
            add(prefix + entry.name, Path(entry.path))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def read_list(path: Path) -> dict[str, Path]:
    """The files named in a text file, one a line; blank lines and lines that start with # are skipped.

    A relative path counts from the list's own folder, or from the current one if it is not there. Keys are relative
    to the deepest folder that holds all the files. Raises SourceError for an unreadable list or a repeated file.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise SourceError(f"the list {path} cannot be read: {error.strerror}; check the path") from error
    if any("\0" in line for line in lines):
        raise SourceError(f"{path} is not a text file; a list holds one path a line")
    files = [_located(line.strip(), path.parent) for line in lines if line.strip() and not line.startswith("#")]
    if not files:
        return {}
    common = Path(os.path.commonpath([file.parent for file in files]))
    keys: dict[str, Path] = {}
    for file in files:
        key = file.relative_to(common).as_posix()
        if key in keys:
            raise SourceError(f"{path} names {file} twice; leave one out")
        keys[key] = file
    return keys


def _located(line: str, folder: Path) -> Path:
    beside = Path(os.path.abspath(folder / line))
    return beside if beside.exists() else Path(os.path.abspath(line)) if Path(line).exists() else beside
