"""Opening, hashing and cutting files into lines without trusting them.

Nothing here follows a link by surprise, waits on a pipe, or reads an unbounded amount into memory.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 4096
_MAGIC = {
    b"PK\x03\x04": "a ZIP archive or Office document",
    b"\x1f\x8b": "gzip-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ\x00": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"%PDF-": "a PDF",
    b"PAR1": "a Parquet file",
    b"PARE": "an encrypted Parquet file",
    b"\x7fELF": "a program",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"SQLite format 3": "an SQLite database",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
# Random bytes hold about 10 % of these, text in any encoding next to none. Tab, line ends, escape are text.
_CONTROL = bytes(sorted(set(range(32)) - {8, 9, 10, 11, 12, 13, 27}))
_BINARY_SHARE = 0.05


class UnreadableFileError(Exception):
    """A file that cannot be read as what it should be. Internal: becomes an InputError or an abstention.

    `detail` says what was expected, what came and what to do, without the path and without examined text.
    """

    def __init__(self, detail: str, *, line: int | None = None) -> None:
        self.detail = detail
        self.line = line
        super().__init__(detail)


class NoTextError(UnreadableFileError):
    """A file that was read, but holds no rows or no column of text: in a folder it is skipped by name."""


class FileStamp(NamedTuple):
    """What tells whether a file was changed between two reads."""

    size: int
    mtime_ns: int


class FileDigest(NamedTuple):
    """What one pass over a file yields."""

    sha256: str
    lines: int
    """Line ends, and one more for a last line without one."""
    stamp: FileStamp


def display_name(path: str) -> str:
    """A file name that can be stored and shown: undecodable bytes and control characters as escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def kind_of_file(mode: int) -> str:
    """Plain name for what a path points at."""
    names = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a symbolic link",
    }
    return names.get(stat.S_IFMT(mode), "a special file")


@contextlib.contextmanager
def open_regular(path: Path | str) -> Iterator[BinaryIO]:
    """Open a regular file for reading; never wait on a pipe and never follow a link in the last component.

    Raises:
        UnreadableFileError: If it is missing, not a regular file, a link, or not permitted.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = (
            (error.strerror or "unknown error").lower() if isinstance(error, OSError) else "unusable name"
        )
        message = f"expected a readable file, got: {reason}. Check the path and its permissions."
        raise UnreadableFileError(message) from error
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            message = f"expected a regular file, got {kind_of_file(mode)}."
            raise UnreadableFileError(message)
        yield stream


def file_stamp(stream: BinaryIO) -> FileStamp:
    """Size and time of last change of an open file."""
    status = os.fstat(stream.fileno())
    return FileStamp(status.st_size, status.st_mtime_ns)


def read_up_to(stream: BinaryIO, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes, and whether there are more."""
    pieces = []
    left = limit + 1
    while left > 0 and (piece := stream.read(min(left, CHUNK_BYTES))):
        pieces.append(piece)
        left -= len(piece)
    data = b"".join(pieces)
    return data[:limit], len(data) > limit


def digest_file(path: Path | str) -> FileDigest:
    """SHA-256 and number of line ends in one pass, a megabyte at a time."""
    hasher = hashlib.sha256()
    newlines = 0
    last = b"\n"
    with open_regular(path) as stream:
        stamp = file_stamp(stream)
        while piece := stream.read(CHUNK_BYTES):
            hasher.update(piece)
            newlines += piece.count(b"\n")
            last = piece[-1:]
    return FileDigest(hasher.hexdigest(), newlines + (last != b"\n"), stamp)


def binary_kind(head: bytes) -> str | None:
    """What a file that is not text seems to be, from its first bytes; None for text."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head and (len(head) - len(head.translate(None, _CONTROL))) > _BINARY_SHARE * len(head):
        return "binary or encrypted data"
    return None


def require_text(head: bytes) -> None:
    """Refuse a file whose beginning is not text.

    Raises:
        UnreadableFileError: If it begins like a known binary format or holds many control characters.
    """
    kind = binary_kind(head)
    if kind is not None:
        message = (
            f"expected UTF-8 text, got {kind}. Unpack or convert it first (to UTF-8 text, JSONL or CSV)."
        )
        raise UnreadableFileError(message)


class Line(NamedTuple):
    """One physical line without its line feed."""

    number: int
    raw: bytes
    cut: bool
    """True when the line was longer than the limit; `raw` then holds its beginning."""


def bounded_lines(stream: BinaryIO, limit: int) -> Iterator[Line]:
    r"""Lines of a binary stream, split at `\n` only, numbered from 1; no line costs more than `limit` bytes.

    A byte order mark at the beginning is left out. The last line needs no line feed.
    """
    number = 0
    pending = b""
    cut = False
    first = True
    while chunk := stream.read(CHUNK_BYTES):
        if first:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            first = False
        *complete, tail = chunk.split(b"\n")
        for piece in complete:
            number += 1
            if not cut:
                pending = pending + piece if pending else piece
            cut = cut or len(pending) > limit
            yield Line(number, pending[:limit] if cut else pending, cut)
            pending, cut = b"", False
        if not cut:
            pending += tail
            if len(pending) > limit:
                pending, cut = pending[:limit], True
    if pending or cut:
        yield Line(number + 1, pending, cut)
