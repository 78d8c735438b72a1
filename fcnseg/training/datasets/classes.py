"""The classes that a data set brings."""

from __future__ import annotations

from dataclasses import dataclass

from fcnseg.errors import SettingsError
from fcnseg.labels import Color, LabelSpace, voc_color

VOID_NAMES = ("void", "ignore")


@dataclass(frozen=True)
class DatasetClasses:
    """The classes that a data set brings, and the colour of void in its label maps if it names one."""

    labels: LabelSpace
    void_color: Color | None = None


def make_classes(
    names: tuple[str, ...], source: str, colors: tuple[Color, ...] = (), ignore: int | None = None
) -> DatasetClasses:
    """Make classes of names, and of colours if there are any.

    A last name "void" or "ignore" is the void label instead of a class, unless `ignore` is another value. Otherwise
    void is `ignore`, or 255 (65535 for more than 255 classes). Raises SettingsError, naming the `source` of the names,
    if they contradict each other.
    """
    last, void_color = len(names) - 1, None
    if names and names[-1].lower() in VOID_NAMES and ignore in (None, last):
        void_color = colors[last] if len(colors) == len(names) else None
        names, colors, ignore = names[:-1], colors[:last], last
    if any(name.lower() in VOID_NAMES for name in names):
        raise SettingsError(
            f"{source} calls a class void that is not the last or has another index than its ignore; leave it out if "
            "void pixels are 255, else name it last"
        )
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"{source} names no class, or one twice; name each class once")
    ignore = ignore if ignore is not None else 255 if len(names) <= 255 else 65535
    if not len(names) <= ignore <= 65535:
        raise SettingsError(
            f"{source} takes {ignore} for void, but there are {len(names)} classes; take a value beyond"
        )
    colors = colors or tuple(voc_color(i % 256) for i in range(len(names)))
    if len(colors) != len(names):
        raise SettingsError(f"{source} has {len(colors)} colours for {len(names)} classes; give each its own")
    return DatasetClasses(LabelSpace(names, colors, ignore), void_color)
