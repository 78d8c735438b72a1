"""Members of tar archives (ustar, GNU and pax), listed by their headers in constant memory.

Python's own reader recurses over headers that extend the next one, goes back for members of negative size, and ends at
the first damaged header. Here a member that cannot be is a fault of its own, and the next header is searched for:
offsets only ever move forward. Sources: POSIX.1-2017, pax, and the manual of GNU tar, "Basic Tar Format".
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from fcnseg.io.seekable import RandomAccess

BLOCK = 512

END = bytes(BLOCK)
"""The block that ends an archive."""

REGULAR = b"0\0" + b"7"
"""The types of plain files: of ustar, of the older format, and contiguous ones."""

LINK_OR_DEVICE = b"123456"
"""Types without content, whatever size is noted: links, devices, folders and named pipes."""

FOLDER = b"5"

SPARSE = b"S"

LONG_NAME, LONG_LINK, PAX, PAX_OF_SUN, PAX_GLOBAL = b"L", b"K", b"x", b"X", b"g"
EXTENSIONS = (LONG_NAME, LONG_LINK, PAX, PAX_OF_SUN, PAX_GLOBAL)
"""Types of headers that extend the next one, or all further ones."""

PAX_KEYS = b"path", b"size", b"mtime", b"GNU.sparse.name"
"""The values of pax headers that are looked at, and any other of sparse files."""

SPARSE_KEY = b"GNU.sparse"

OLD_GNU = b"ustar "
"""The magic of GNU's format, which has times where ustar continues the name."""

MOST_EXTENSIONS = 100
"""The most extension headers of one member; writers use up to three."""

LONGEST_EXTENSION_BYTES = 1 << 20

PIECE_BYTES = 2048 * BLOCK
"""How much is searched at once for a header."""

FIRST_OF_CHECKSUM = frozenset(bytes([byte]) for byte in b" 01234567\x80\xff")
"""What the checksum of a header begins with. Other blocks are passed by quickly, those of zeros too."""

NOT_PLAIN = "a link, a device or a sparse file, not a plain file"


class HeaderError(Exception):
    """A block is no header, or a header is malformed."""


@dataclass
class TarMember:
    """A member: where its content begins, and its bytes. `fault` says why it cannot be read, if so."""

    name: str
    offset: int
    size: int
    mtime: float
    fault: str = ""
    is_folder: bool = False


@dataclass
class _Extension:
    """The values that extension headers give the next member."""

    name: bytes | None = None
    values: dict[str, str] = field(default_factory=dict)
    count: int = 0
    fault: str = ""


class TarMembers:
    """The members of an archive in its order. `fault` says, after they were listed, if the archive is damaged."""

    def __init__(self, file: RandomAccess) -> None:
        self._file = file
        self.fault = ""

    def check(self) -> None:
        """Raise HeaderError unless the file begins as tar archives do."""
        block = self._file.read_at(0, BLOCK)
        if block != END and block[257:262] != b"ustar":
            _check(block)

    def __iter__(self) -> Iterator[TarMember]:
        self.fault, offset, common, extension = "", 0, dict[str, str](), _Extension()
        while offset < self._file.size:
            block = self._file.read_at(offset, BLOCK)
            if block == END:
                break
            try:
                _check(block)
            except HeaderError:
                self._damaged(offset)
                offset, extension = self._next_header(offset + BLOCK), _Extension()
                continue
            start, kind = offset + BLOCK, block[156:157]
            try:
                size = _number(block[124:136])
            except ValueError:
                size = -1
            if kind in EXTENSIONS:
                self._extend(kind, start, size, extension, common)
                offset = self._end_of_content(start, size)
                continue
            member = _member(block, size, {**common, **extension.values}, extension)
            extension = _Extension()
            member.offset = start = start + (self._sparse_map_bytes(block, start) if kind == SPARSE else 0)
            has_content = kind not in LINK_OR_DEVICE and not member.is_folder
            yield member
            offset = self._end_of_content(start, member.size) if has_content else start
        if extension.count:
            self._damaged(self._file.size)

    def _damaged(self, offset: int) -> None:
        """Note the first place that is damaged."""
        self.fault = self.fault or f"the archive is damaged or cut short: there is no header at byte {offset}"

    def _end_of_content(self, start: int, size: int) -> int:
        """Return the offset of the header after a content: of the next there is, if the size cannot be."""
        end = start + _padded(size)
        if size < 0:
            return self._next_header(start)
        if end <= self._file.size or start + size <= self._file.size:
            return end
        following = self._next_header(start)
        if following >= self._file.size:
            self._damaged(end)
        return following

    def _next_header(self, offset: int) -> int:
        """Return the offset of the next block that is a header; the archive's end if there is none."""
        while piece := self._file.read_at(offset, PIECE_BYTES):
            for at in range(0, len(piece), BLOCK):
                if piece[at + 148 : at + 149] not in FIRST_OF_CHECKSUM:
                    continue
                with suppress(HeaderError):
                    _check(piece[at : at + BLOCK])
                    return offset + at
            offset += PIECE_BYTES
        return self._file.size

    def _extend(self, kind: bytes, offset: int, size: int, extension: _Extension, common: dict[str, str]) -> None:
        """Note what an extension header says."""
        extension.count += 1
        if extension.count > MOST_EXTENSIONS:
            extension.fault = f"it has more than {MOST_EXTENSIONS} extension headers"
        elif not 0 <= size <= LONGEST_EXTENSION_BYTES:
            extension.fault = f"its extension header is said to be of {size} bytes"
        else:
            content = self._file.read_at(offset, size)
            if kind == LONG_NAME:
                extension.name = content.partition(b"\0")[0]
            elif kind != LONG_LINK:
                try:
                    (common if kind == PAX_GLOBAL else extension.values).update(_pax_values(content))
                except ValueError:
                    extension.fault = "its extension header is malformed"

    def _sparse_map_bytes(self, block: bytes, offset: int) -> int:
        """Return the bytes of the blocks that continue a GNU header's map of a sparse file."""
        start, more = offset, block[482]
        while more and (block := self._file.read_at(offset, BLOCK)):
            offset, more = offset + BLOCK, block[504] if len(block) == BLOCK else 0
        return offset - start


def _member(block: bytes, size: int, values: dict[str, str], extension: _Extension) -> TarMember:
    """Return the member of a header and of what extends it; its offset is yet to come."""
    kind, fault = block[156:157], extension.fault
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    if prefix and block[257:263] != OLD_GNU:
        name = prefix + b"/" + name
    text = (name if extension.name is None else extension.name).decode("utf-8", "surrogateescape")
    text = values.get("GNU.sparse.name") or values.get("path") or text
    is_folder = kind == FOLDER or (kind == b"\0" and text.endswith("/"))
    try:
        size = int(values["size"]) if "size" in values else size
    except ValueError:
        size = -1
    try:
        mtime = float(values["mtime"]) if "mtime" in values else _number(block[136:148])
    except ValueError:
        mtime = 0
    if kind not in REGULAR or values.keys() & {"GNU.sparse.name", SPARSE_KEY.decode()}:
        fault = fault or NOT_PLAIN
    if size < 0:
        fault = fault or "its header is malformed: its size is no whole number of bytes"
    return TarMember(text.rstrip("/") if is_folder else text, 0, size, mtime, fault, is_folder)


def _check(block: bytes) -> None:
    """Raise HeaderError unless a block is a header, by its checksum."""
    try:
        noted = _number(block[148:156])
    except ValueError as error:
        raise HeaderError("no header") from error
    if len(block) < BLOCK:
        raise HeaderError("no whole header")
    others = block[:148] + block[156:]
    unsigned = sum(others) + 8 * ord(" ")
    if noted not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in others)):  # the latter: signed bytes
        raise HeaderError("no header, or a damaged one")


def _number(digits: bytes) -> int:
    """Return a number of a header: octal, or binary with a mark. Raises ValueError if it is none."""
    if digits[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(digits[1:], "big", signed=digits[:1] == b"\xff")
    return int(digits.partition(b"\0")[0].decode("ascii").strip() or "0", 8)


def _pax_values(content: bytes) -> dict[str, str]:
    """Return the values of a pax header (`LENGTH KEY=VALUE` a line) that are in PAX_KEYS. Raises ValueError if it is
    malformed."""
    values, start = {}, 0
    while start < len(content) and content[start]:
        space = content.index(b" ", start, start + 20)
        length = int(content[start:space])
        line = content[space + 1 : start + length]
        key, mark, value = line[:-1].partition(b"=")
        if length <= space + 1 - start or not mark or line[-1:] != b"\n":
            raise ValueError("no line of a pax header")
        name = SPARSE_KEY if key.startswith(b"GNU.sparse.") and key not in PAX_KEYS else key
        if name in (SPARSE_KEY, *PAX_KEYS):
            values[name.decode()] = value.decode("utf-8", "surrogateescape")
        start += length
    return values


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
