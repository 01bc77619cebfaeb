"""Reading one skill: a folder with a SKILL.md (agentskills.io format). Nothing in it is executed or followed.

The author does not become part of the skill's declared purpose: an `owner/name` is reduced to the name, a
missing name is taken from the `slug` of a registry's `_meta.json`, or else from the folder.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from tocsin.core.records import Abstention, FileEntry, Finding, Item, Kind, Origin, Reason, Skill
from tocsin.sources.files import (
    HEAD_BYTES,
    UnreadableFileError,
    binary_kind,
    display_name,
    open_regular,
    read_up_to,
)
from tocsin.sources.front_matter import FrontMatter, split_front_matter
from tocsin.sources.headers import section_headers
from tocsin.sources.ignore import IgnoreRules
from tocsin.sources.limits import Limits
from tocsin.sources.skill_files import SkillFiles, list_skill_files
from tocsin.sources.skill_rules import body_findings, front_matter_findings
from tocsin.sources.walk import SKILL_FILE, SkillPlace, resolve_inside

_META_FILE = "_meta.json"
_META_BYTES = 1 << 16
_META_NAME_CHARS = 200
_KEPT_KEYS = ("license", "version", "author", "homepage")
_KEPT_CHARS = 500


class RawSkill(NamedTuple):
    """The bytes of a SKILL.md, the list of its other files, and the hash over both."""

    data: bytes
    is_longer: bool
    """True when SKILL.md is longer than the limit."""
    listing: SkillFiles
    problem: str
    """Why SKILL.md could not be read; empty when it was."""
    digest: bytes


def load_skill(root: Path, place: SkillPlace, ignore: IgnoreRules, limits: Limits) -> RawSkill:
    """Read SKILL.md (up to its limit) and list and hash the skill's other files."""
    data, is_longer, problem = b"", False, ""
    path = resolve_inside(root, root / place.path)
    try:
        if path is None:
            message = "expected SKILL.md inside the scanned folder, got a link that leaves it or is broken."
            raise UnreadableFileError(message)
        with open_regular(path) as stream:
            data, is_longer = read_up_to(stream, limits.skill_md_bytes)
        kind = binary_kind(data[:HEAD_BYTES])
        if kind is not None:
            problem = f"expected SKILL.md to be UTF-8 text, got {kind}."
    except UnreadableFileError as error:
        problem = error.detail
    except OSError as error:
        problem = f"expected a readable SKILL.md, got: {(error.strerror or 'an error').lower()}."
    listing = list_skill_files(root, place, ignore, limits)
    hasher = hashlib.sha256(data)
    for file in listing.files:
        hasher.update(f"\n{file.name}\0{file.size}\0{file.sha256}".encode())
    return RawSkill(data, is_longer, listing, problem, hasher.digest())


def skill_item(
    root: Path, place: SkillPlace, raw: RawSkill, origin: Origin, limits: Limits, kept: tuple[str, ...] = ()
) -> Item:
    """The item of a loaded skill; `kept` names front matter keys (or registry fields) to keep as metadata."""
    if raw.problem:
        problem = Abstention(reason=Reason.UNREADABLE, detail=raw.problem)
        return Item(kind=Kind.SKILL, origin=origin, problem=problem, findings=tuple(raw.listing.findings))
    notes = list(raw.listing.notes)
    findings = list(_entry_findings(place, notes))
    if raw.is_longer:
        notes.append(f"only the first {limits.skill_md_bytes:,} bytes of SKILL.md were read")
    front = split_front_matter(_decode(raw, findings, notes), limits)
    folder_name = (root / place.folder).name or None
    findings += front.findings
    findings += front_matter_findings(front, folder_name)
    findings += body_findings(front)
    findings += raw.listing.findings
    headers = section_headers(front.body, limits)
    meta = _registry_fields(root, place, raw.listing.files)
    skill = Skill(
        name=_name(front, meta, folder_name),
        description=_text(front, "description"),
        headers=headers.texts,
        body=front.body,
        files=tuple(raw.listing.files),
    )
    notes += [*front.notes, *headers.notes]
    empty = None
    if not raw.data.strip():
        empty = Abstention(reason=Reason.EMPTY, detail="expected a SKILL.md with text, got an empty file.")
    return Item(
        kind=Kind.SKILL,
        skill=skill,
        origin=origin,
        metadata=_metadata(front, meta, kept),
        problem=empty,
        partial=tuple(dict.fromkeys(notes)),
        findings=tuple(findings),
    )


def _entry_findings(place: SkillPlace, notes: list[str]) -> list[Finding]:
    findings = []
    if place.entry != SKILL_FILE:
        message = f"expected the spelling {SKILL_FILE}, got another"
        findings.append(Finding(rule="skill/file-name", message=message))
    if place.has_second_entry:
        message = f"expected one {SKILL_FILE}, got several spellings; another program may read another one"
        findings.append(Finding(rule="skill/file-name", message=message))
        notes.append("a second spelling of SKILL.md was not read")
    return findings


def _decode(raw: RawSkill, findings: list[Finding], notes: list[str]) -> str:
    data = raw.data
    if data.startswith(codecs.BOM_UTF8):
        findings.append(Finding(rule="skill/not-utf8", message="a byte order mark was left out", line=1))
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        # A cut at the limit may have split a character: an incremental decoder leaves its half out.
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=not raw.is_longer)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = "expected UTF-8, got other bytes; they were replaced"
        findings.append(Finding(rule="skill/not-utf8", message=message, line=line))
        notes.append("bytes of SKILL.md that are not UTF-8 were replaced")
        text = data.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text(front: FrontMatter, key: str) -> str:
    value = front.values.get(key)
    return (value.text or "").strip() if value is not None else ""


def _name(front: FrontMatter, meta: dict[str, str], folder_name: str | None) -> str:
    """Name without its owner: of `@owner/name` only what follows the slash."""
    name = _text(front, "name") or meta.get("slug", "") or display_name(folder_name or "")
    return name.rstrip("/").rpartition("/")[2]


def _registry_fields(root: Path, place: SkillPlace, files: list[FileEntry]) -> dict[str, str]:
    """Text fields of the small JSON file that registries put beside SKILL.md; empty when there is none."""
    if not any(file.name == _META_FILE and 0 < file.size <= _META_BYTES for file in files):
        return {}
    try:
        with open_regular(root / place.folder / _META_FILE) as stream:
            fields = json.loads(stream.read(_META_BYTES).decode("utf-8-sig"))
    except (UnreadableFileError, OSError, ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {
        key: value.encode("utf-8", "replace").decode("utf-8")
        for key, value in fields.items()
        if isinstance(value, str) and len(value) <= _META_NAME_CHARS
    }


def _metadata(front: FrontMatter, meta: dict[str, str], kept: tuple[str, ...]) -> dict[str, JsonValue]:
    """Licence, version, author, the registry's owner, and the keys that the caller named."""
    metadata: dict[str, JsonValue] = {}
    for key in dict.fromkeys((*_KEPT_KEYS, *kept)):
        if text := _text(front, key):
            metadata[key] = text[:_KEPT_CHARS]
    for key in ("owner", *kept):
        if key in meta:
            metadata.setdefault(key, meta[key])
    return metadata
