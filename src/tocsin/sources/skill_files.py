"""Listing and hashing the files of one skill. They are never run, and never held in memory whole."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.core.records import FileEntry, Finding
from tocsin.sources.files import CHUNK_BYTES, UnreadableFileError, display_name, kind_of_file, open_regular
from tocsin.sources.ignore import ALWAYS_IGNORED, IgnoreRules
from tocsin.sources.limits import Limits
from tocsin.sources.walk import SkillPlace, entry_names, inside_target, join_path, scan_folder

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


@dataclass(slots=True)
class SkillFiles:
    """The files of one skill beside its SKILL.md."""

    files: list[FileEntry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
            entries = scan_folder(root / place.folder / inner, left)
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
            name = join_path(inner, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and entry.name in ALWAYS_IGNORED:
                message = "a folder of version control or of scan results is in the skill; it was not listed"
                result.findings.append(Finding(rule="skill/hidden-file", message=message))
            elif ignore.matches(join_path(place.folder, name), is_folder=is_folder):
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
    if inside_target(root, path) is None:
        message = (
            "expected files inside the scanned folder, got a symbolic link that leaves it or leads nowhere"
        )
        result.findings.append(Finding(rule="skill/symlink-escape", message=message + "; not followed"))
    else:
        message = "a symbolic link inside the scanned folder is listed; it was not followed"
        result.findings.append(Finding(rule="skill/symlink", message=message))


def _hash(path: Path, limit: int, result: SkillFiles) -> str | None:
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
