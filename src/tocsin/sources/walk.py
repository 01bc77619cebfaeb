"""Finding what a folder holds: skills at any depth, data files, and everything that cannot be read.

Symbolic links are never followed to a folder, and to a file only inside the scanned folder. The order is that
of the sorted path components, so the same folder always gives the same running numbers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.core.records import Abstention, FileEntry, Finding, Kind, Reason
from tocsin.sources.files import CHUNK_BYTES, UnreadableFileError, display_name, kind_of_file, open_regular
from tocsin.sources.formats import format_by_ending
from tocsin.sources.ignore import ALWAYS_IGNORED, IGNORE_FILE, IgnoreRules
from tocsin.sources.limits import Limits

SKILL_FILE = "SKILL.md"
_NAMED_IN_NOTICE = 10
_SCRIPT_ENDINGS = frozenset(
    [
        *(
            ".py",
            ".sh",
            ".bash",
            ".zsh",
            ".fish",
            ".js",
            ".mjs",
            ".cjs",
            ".ts",
            ".rb",
            ".pl",
            ".php",
            ".lua",
            ".go",
        ),
        *(".rs", ".swift", ".ps1", ".psm1", ".bat", ".cmd", ".vbs", ".scpt", ".applescript"),
        *(".exe", ".dll", ".so", ".dylib", ".jar", ".wasm"),
    ]
)


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
        return _join(self.folder, self.entry)


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


@dataclass(slots=True)
class SkillFiles:
    """The files of one skill beside its SKILL.md."""

    files: list[FileEntry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
            entries = _scan(self._root / folder, self._left)
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
            path = _join(folder, entry.name)
            if self._ignore.matches(path, is_folder=entry.is_dir(follow_symlinks=False)):
                self.index.ignored.add(path)
            else:
                kept.append(entry)
        spellings = entry_names([entry.name for entry in kept if not entry.is_dir(follow_symlinks=False)])
        if spellings:
            self._add_skill(folder, spellings)
        for entry in kept:
            path = _join(folder, entry.name)
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
            target = _target(self._root, self._root / path)
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


def list_skill_files(root: Path, place: SkillPlace, ignore: IgnoreRules, limits: Limits) -> SkillFiles:
    """List, size and hash the files of one skill. They are never run, and never held in memory whole.

    A nested skill's files belong to that skill. Links are listed with size 0 and no hash.
    """
    result = SkillFiles()
    hidden = scripts = 0
    hash_budget = limits.hashed_skill_bytes
    base = root / place.folder
    for name, entry in _skill_entries(root, place, ignore, limits, result):
        if len(result.files) >= limits.files_per_skill:
            result.notes.append(f"only the first {limits.files_per_skill:,} files of the skill were listed")
            break
        shown = display_name(name)
        hidden += any(part.startswith(".") for part in name.split("/"))
        scripts += os.path.splitext(name)[1].lower() in _SCRIPT_ENDINGS  # noqa: PTH122 - undecodable names
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            _judge_link(root, Path(entry.path), result)
            result.files.append(FileEntry(name=shown, size=0, sha256=None))
        elif not stat.S_ISREG(status.st_mode):
            message = f"expected regular files, got {kind_of_file(status.st_mode)}; it was not opened"
            result.findings.append(Finding(rule="skill/special-file", message=message))
            result.files.append(FileEntry(name=shown, size=0, sha256=None))
        else:
            digest = None
            if status.st_size <= min(limits.hashed_file_bytes, hash_budget):
                digest = _hash(base / name, limits.hashed_file_bytes, result)
                hash_budget -= status.st_size
            else:
                message = f"a file of {status.st_size:,} bytes is listed without a hash, being too large"
                result.findings.append(Finding(rule="skill/large-file", message=message))
            result.files.append(FileEntry(name=shown, size=status.st_size, sha256=digest))
    if hidden:
        message = f"{hidden} hidden file(s) (name begins with a dot)"
        result.findings.append(Finding(rule="skill/hidden-file", message=message))
    if scripts:
        message = f"{scripts} script(s) or program(s) are listed; they were not read or run"
        result.findings.append(Finding(rule="skill/script-present", message=message))
    return result


def _skill_entries(
    root: Path, place: SkillPlace, ignore: IgnoreRules, limits: Limits, result: SkillFiles
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files of a skill as (name inside the skill, entry), depth first, without nested skills."""
    left = limits.files_per_skill * 10
    pending: list[tuple[str, int]] = [("", place.folder.count("/") + bool(place.folder))]
    while pending:
        inner, depth = pending.pop()
        try:
            entries = _scan(root / place.folder / inner, left)
        except OSError:
            result.notes.append("a folder of the skill could not be read")
            continue
        left -= len(entries)
        if left <= 0:
            result.notes.append(
                f"the skill holds more than {limits.files_per_skill * 10:,} files and folders"
            )
            return
        if inner and entry_names([e.name for e in entries if not e.is_dir(follow_symlinks=False)]):
            continue
        folders = []
        for entry in entries:
            name = _join(inner, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and entry.name in ALWAYS_IGNORED:
                message = "a folder of version control or of scan results is in the skill; it was not listed"
                result.findings.append(Finding(rule="skill/hidden-file", message=message))
            elif ignore.matches(_join(place.folder, name), is_folder=is_folder):
                continue
            elif not is_folder:
                if name != place.entry:
                    yield name, entry
            elif depth + 1 > limits.folder_depth:
                result.notes.append(
                    f"folders nested deeper than {limits.folder_depth} levels were not listed"
                )
            else:
                folders.append((name, depth + 1))
        pending.extend(reversed(folders))


def _judge_link(root: Path, path: Path, result: SkillFiles) -> None:
    if _target(root, path) is None:
        message = (
            "expected files inside the scanned folder, got a symbolic link that leaves it or leads nowhere"
        )
        result.findings.append(Finding(rule="skill/symlink-escape", message=message + "; not followed"))
    else:
        message = "a symbolic link inside the scanned folder is listed; it was not followed"
        result.findings.append(Finding(rule="skill/symlink", message=message))


def _hash(path: Path, limit: int, result: SkillFiles) -> str | None:
    import hashlib

    hasher = hashlib.sha256()
    left = limit
    try:
        with open_regular(path) as stream:
            while left > 0 and (piece := stream.read(min(CHUNK_BYTES, left))):
                hasher.update(piece)
                left -= len(piece)
    except (UnreadableFileError, OSError):
        message = "expected a readable file, got one that could not be opened; it is listed without a hash"
        result.findings.append(Finding(rule="skill/unreadable-file", message=message))
        return None
    return hasher.hexdigest()


def resolve_inside(root: Path, path: Path) -> Path | None:
    """The path itself, or the target of a link that stays inside `root`; None when it leaves it."""
    return _target(root, path) if path.is_symlink() else path


def _target(root: Path, path: Path) -> Path | None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    return target if target.is_relative_to(root) else None


def _scan(folder: Path, limit: int) -> list[os.DirEntry[str]]:
    """Entries in the order of their names; at most `limit` of them, so that a huge folder stays cheap."""
    entries = []
    with os.scandir(folder) as found:
        for entry in found:
            entries.append(entry)
            if len(entries) >= limit:
                break
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
