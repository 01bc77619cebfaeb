"""Paths to leave out: patterns of the caller and of a file that the caller names, in gitignore syntax.

A `.tocsinignore` inside the scanned folder is not obeyed unless it is named: whoever made the folder could
hide files from the scan with it. Patterns with many wildcards are refused, because matching them can take
exponential time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pathspec

from tocsin.core.errors import InputError, UsageError
from tocsin.sources.files import UnreadableFileError, open_regular, read_up_to

IGNORE_FILE = ".tocsinignore"
ALWAYS_IGNORED = frozenset({".git", ".hg", ".svn", "tocsin-runs"})
"""Folders of version control, and our own run folders; skipped by name and counted."""
_FILE_BYTES = 1 << 20
_WILDCARDS = 3
_ANY_DEPTH = 4


class IgnoreRules:
    """Decides which paths are left out."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        for pattern in patterns:
            if _is_explosive(pattern):
                message = (
                    f"expected at most {_WILDCARDS} wildcards in each part of an ignore pattern, got more."
                )
                raise UsageError(message)
        try:
            self._spec = pathspec.GitIgnoreSpec.from_lines(patterns)
        except ValueError as error:
            message = (
                "expected ignore patterns in gitignore syntax, got one that is not. Correct or remove it."
            )
            raise UsageError(message) from error
        self._is_empty = not patterns

    def matches(self, relative: str, *, is_folder: bool) -> bool:
        """Whether a path (relative to the scanned folder, with forward slashes) is left out."""
        if is_folder and relative.rpartition("/")[2] in ALWAYS_IGNORED:
            return True
        return not self._is_empty and self._spec.match_file(relative + "/" if is_folder else relative)


def read_ignore_file(path: Path) -> list[str]:
    """The patterns of an ignore file.

    Raises:
        InputError: If it cannot be read, is too large, or holds a pattern that takes too long to match.
    """
    try:
        with open_regular(path) as stream:
            data, is_longer = read_up_to(stream, _FILE_BYTES)
        lines = data.decode("utf-8-sig").splitlines()
    except UnreadableFileError as error:
        raise InputError(error.detail, path=path) from error
    except UnicodeDecodeError as error:
        message = "expected UTF-8 text. Convert the file, or remove it."
        raise InputError(message, path=path) from error
    if is_longer:
        message = f"expected an ignore file of at most {_FILE_BYTES:,} bytes, got a larger one. Shorten it."
        raise InputError(message, path=path)
    for number, line in enumerate(lines, start=1):
        if _is_explosive(line):
            message = (
                f"expected at most {_WILDCARDS} wildcards in each part of a pattern, got more. Simplify it."
            )
            raise InputError(message, path=path, line=number)
    return lines


def _is_explosive(pattern: str) -> bool:
    parts = pattern.split("/")
    any_depth = sum(part == "**" for part in parts)
    return any_depth > _ANY_DEPTH or any(len(re.findall(r"\*+", part)) > _WILDCARDS for part in parts)
