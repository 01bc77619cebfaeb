"""Finding what a folder holds: skills at any depth, data files, and everything that cannot be read.

Symbolic links are never followed to a folder, and to a file only inside the scanned folder. The order is that
of the sorted path components, so the same folder always gives the same running numbers.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.core.records import Abstention, Kind, Reason
from tocsin.sources.files import display_name, kind_of_file
from tocsin.sources.formats import format_by_ending
from tocsin.sources.ignore import IGNORE_FILE, IgnoreRules
from tocsin.sources.limits import Limits

SKILL_FILE = "SKILL.md"
_NAMED_IN_NOTICE = 10


@dataclass(frozen=True, slots=True)
class SkillPlace:
    """A folder with a SKILL.md."""

    folder: str
    """Relative to the scanned folder; empty for that folder itself."""
    entry: str
    """Name of the file as it is spelled."""
    has_second_entry: bool = False

    @property
    def path(self) -> str:
        """The SKILL.md, relative to the scanned folder."""
        return join_path(self.folder, self.entry)


@dataclass(frozen=True, slots=True)
class DataPlace:
    """A file with rows."""

    path: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A place that should have been read and was not: becomes an item with a problem."""

    path: str
    problem: Abstention
    kind: Kind = Kind.SKILL


Place = SkillPlace | DataPlace | Trouble


@dataclass(slots=True)
class Counter:
    """How many paths of one sort there are, and the first few by name."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count a path."""
        self.count += 1
        if len(self.names) < _NAMED_IN_NOTICE:
            self.names.append(display_name(path))

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.names) else ""
        return ", ".join(self.names) + more


@dataclass(slots=True)
class FolderIndex:
    """What a folder holds, in the order in which it is read."""

    places: list[Place] = field(default_factory=list)
    unknown: Counter = field(default_factory=Counter)
    """Files that are neither data nor part of a skill."""
    ignored: Counter = field(default_factory=Counter)


def entry_names(names: list[str]) -> list[str]:
    """The spellings of SKILL.md among file names, the official one first."""
    return sorted(
        (name for name in names if name.lower() == SKILL_FILE.lower()), key=lambda n: (n != SKILL_FILE, n)
    )


def index_folder(root: Path, ignore: IgnoreRules, limits: Limits) -> FolderIndex:
    """Walk a folder once and list its skills, data files and troubles. Reads names only, no content."""
    walker = _Walker(root, ignore, limits)
    walker.visit("", 0, in_skill=False)
    return walker.index


class _Walker:
    def __init__(self, root: Path, ignore: IgnoreRules, limits: Limits) -> None:
        self._root = root
        self._ignore = ignore
        self._limits = limits
        self._left = limits.folder_entries
        self._skills = 0
        self._data_files = 0
        self.index = FolderIndex()

    def _trouble(
        self, path: str, detail: str, reason: Reason = Reason.UNREADABLE, kind: Kind = Kind.SKILL
    ) -> None:
        self.index.places.append(
            Trouble(display_name(path) or ".", Abstention(reason=reason, detail=detail), kind)
        )

    def visit(self, folder: str, depth: int, *, in_skill: bool) -> None:
        """Visit one folder; recursion is bounded by `folder_depth`."""
        if depth > self._limits.folder_depth:
            detail = f"expected at most {self._limits.folder_depth} nested folders, got more; not read."
            self._trouble(folder, detail, Reason.TRUNCATED)
            return
        try:
            entries = scan_folder(self._root / folder, self._left)
        except OSError as error:
            self._trouble(
                folder, f"expected a readable folder, got: {(error.strerror or 'an error').lower()}."
            )
            return
        self._left -= len(entries)
        if self._left <= 0:
            detail = (
                f"expected at most {self._limits.folder_entries:,} files and folders; the rest was not read."
            )
            self._trouble(folder, detail, Reason.TRUNCATED)
            return
        kept = []
        for entry in entries:
            path = join_path(folder, entry.name)
            if self._ignore.matches(path, is_folder=entry.is_dir(follow_symlinks=False)):
                self.index.ignored.add(path)
            else:
                kept.append(entry)
        spellings = entry_names([entry.name for entry in kept if not entry.is_dir(follow_symlinks=False)])
        if spellings:
            self._add_skill(folder, spellings)
        for entry in kept:
            path = join_path(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                self.visit(path, depth + 1, in_skill=in_skill or bool(spellings))
            elif not in_skill and not spellings:
                self._loose_file(path, entry)

    def _add_skill(self, folder: str, spellings: list[str]) -> None:
        self._skills += 1
        if self._skills <= self._limits.skills:
            self.index.places.append(SkillPlace(folder, spellings[0], has_second_entry=len(spellings) > 1))
        elif self._skills == self._limits.skills + 1:
            detail = f"expected at most {self._limits.skills:,} skills in one folder; the rest was not read."
            self._trouble(folder, detail, Reason.TRUNCATED)

    def _loose_file(self, path: str, entry: os.DirEntry[str]) -> None:
        """A file that belongs to no skill."""
        mode = entry.stat(follow_symlinks=False).st_mode
        is_data = format_by_ending(path) is not None
        if stat.S_ISLNK(mode):
            target = inside_target(self._root, self._root / path)
            if target is None:
                detail = (
                    "expected files inside the scanned folder, got a symbolic link that leaves it or leads "
                )
                detail += "nowhere; it was not followed. Scan its target by its own path."
                self._trouble(path, detail)
            elif target.is_dir():
                # Its target lies in this folder and is visited there.
                self.index.unknown.add(path)
            elif is_data:
                self._add_data(path)
            else:
                self.index.unknown.add(path)
        elif not stat.S_ISREG(mode):
            if is_data:
                self._trouble(path, f"expected a regular file, got {kind_of_file(mode)}.", kind=Kind.PROMPT)
            else:
                self.index.unknown.add(path)
        elif is_data:
            self._add_data(path)
        elif entry.name != IGNORE_FILE:
            self.index.unknown.add(path)

    def _add_data(self, path: str) -> None:
        self._data_files += 1
        if self._data_files <= self._limits.data_files:
            self.index.places.append(DataPlace(path))
        elif self._data_files == self._limits.data_files + 1:
            detail = f"expected at most {self._limits.data_files:,} data files; the rest was not read."
            self._trouble(path, detail, Reason.TRUNCATED, Kind.PROMPT)


def resolve_inside(root: Path, path: Path) -> Path | None:
    """The path itself, or the target of a link that stays inside `root`; None when it leaves it."""
    return inside_target(root, path) if path.is_symlink() else path


def inside_target(root: Path, path: Path) -> Path | None:
    """Where a path really leads; None when that is outside `root`, or nowhere."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    return target if target.is_relative_to(root) else None


def scan_folder(folder: Path, limit: int) -> list[os.DirEntry[str]]:
    """Entries in the order of their names; at most `limit` of them, so that a huge folder stays cheap."""
    entries = []
    with os.scandir(folder) as found:
        for entry in found:
            entries.append(entry)
            if len(entries) >= limit:
                break
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def join_path(folder: str, name: str) -> str:
    """A path relative to the scanned folder; `folder` is empty for the scanned folder itself."""
    return f"{folder}/{name}" if folder else name
