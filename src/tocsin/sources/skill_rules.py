"""The format rules of skills, with stable ids, after the agentskills.io specification.

Reading is lenient, as clients do it: a violation becomes a finding and the skill is examined all the same. A
strict validator would refuse a large part of the skills that are in use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from tocsin.core.records import Finding
from tocsin.sources.front_matter import FrontMatter, Value

SKILL_RULES: dict[str, str] = {
    "skill/file-name": "The file should be spelled SKILL.md, and there should be one.",
    "skill/not-utf8": "SKILL.md should be UTF-8 without a byte order mark.",
    "skill/front-matter-missing": "SKILL.md should begin with a front matter block between two --- lines.",
    "skill/front-matter-invalid": "The front matter should be a YAML mapping without aliases.",
    "skill/front-matter-too-large": "The front matter should be small.",
    "skill/duplicate-key": "Every key of the front matter should occur once.",
    "skill/unknown-key": "Keys should be name, description, license, compatibility, metadata, allowed-tools.",
    "skill/name-missing": "The front matter should have a name.",
    "skill/name-format": "A name has 1 to 64 lower-case letters, digits and single hyphens between them.",
    "skill/name-folder-mismatch": "The name should equal the name of the skill's folder.",
    "skill/description-missing": "There should be a description: what the skill does and when to use it.",
    "skill/description-too-long": "A description has at most 1,024 characters.",
    "skill/value-type": "The value of metadata is a mapping; those of the other specified keys are text.",
    "skill/compatibility-too-long": "A compatibility note has at most 500 characters.",
    "skill/body-missing": "There should be instructions after the front matter.",
    "skill/body-too-long": "Fewer than 500 lines of instructions are advised.",
    "skill/symlink-escape": "Files should not be symbolic links that leave the scanned folder.",
    "skill/symlink": "A symbolic link inside the scanned folder was listed, not followed.",
    "skill/special-file": "A skill should hold regular files only: no pipe, socket or device.",
    "skill/unreadable-file": "A file of the skill could not be opened.",
    "skill/large-file": "A file was too large to be hashed.",
    "skill/hidden-file": "Hidden files are easily overlooked in a review.",
    "skill/script-present": "Scripts and programs are listed, never run; read them before installing.",
}
"""Rule id and what it asks for."""

SPECIFIED_KEYS = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
NAME_CHARS = 64
DESCRIPTION_CHARS = 1024
COMPATIBILITY_CHARS = 500
BODY_LINES = 500


def front_matter_findings(front: FrontMatter, folder_name: str | None) -> Iterator[Finding]:
    """Violations in name, description and the other keys. `folder_name` is None when it is not known."""
    values = front.values
    for key in sorted(SPECIFIED_KEYS & values.keys()):
        if values[key].is_nested != (key == "metadata") and not _is_null(values[key]):
            expected = "a mapping" if key == "metadata" else "text"
            message = f'expected {expected} in "{key}", got another type'
            yield Finding(rule="skill/value-type", message=message, line=values[key].line)
    yield from _name_findings(values.get("name"), folder_name)
    description = values.get("description")
    if description is None or not (description.text or "").strip():
        message = 'expected a "description", got none'
        yield Finding(
            rule="skill/description-missing", message=message, line=description and description.line
        )
    elif len(description.text or "") > DESCRIPTION_CHARS:
        message = f"expected at most {DESCRIPTION_CHARS:,} characters, got {len(description.text or ''):,}"
        yield Finding(rule="skill/description-too-long", message=message, line=description.line)
    compatibility = values.get("compatibility")
    if compatibility is not None and len(compatibility.text or "") > COMPATIBILITY_CHARS:
        message = f"expected at most {COMPATIBILITY_CHARS} characters, got {len(compatibility.text or ''):,}"
        yield Finding(rule="skill/compatibility-too-long", message=message, line=compatibility.line)
    unknown = [value.line for key, value in values.items() if key not in SPECIFIED_KEYS]
    if unknown:
        message = f"{len(unknown)} key(s) that the specification does not list"
        yield Finding(rule="skill/unknown-key", message=message, line=unknown[0])


def _name_findings(name: Value | None, folder_name: str | None) -> Iterator[Finding]:
    if name is None or not (name.text or "").strip():
        message = 'expected a "name", got none; the folder\'s name is used'
        yield Finding(rule="skill/name-missing", message=message, line=name and name.line)
        return
    text = unicodedata.normalize("NFKC", name.text or "")
    if not is_valid_name(text):
        message = f"expected 1 to {NAME_CHARS} lower-case letters, digits and single inner hyphens"
        yield Finding(rule="skill/name-format", message=message, line=name.line)
    if folder_name is not None and text != unicodedata.normalize("NFKC", folder_name):
        message = "expected the name to equal the folder's name, got another"
        yield Finding(rule="skill/name-folder-mismatch", message=message, line=name.line)


def is_valid_name(name: str) -> bool:
    """Whether a name follows the specification; letters of any script pass, as in the reference validator."""
    return (
        0 < len(name) <= NAME_CHARS
        and name == name.lower()
        and all(c.isalnum() or c == "-" for c in name)
        and re.search(r"^-|-$|--", name) is None
    )


def body_findings(front: FrontMatter) -> Iterator[Finding]:
    """Violations of what follows the front matter."""
    if not front.body.strip():
        message = "expected instructions after the front matter, got none"
        yield Finding(rule="skill/body-missing", message=message, line=front.body_line)
        return
    lines = front.body.count("\n") + (not front.body.endswith("\n"))
    if lines > BODY_LINES:
        message = f"fewer than {BODY_LINES} lines are advised, got {lines:,}"
        yield Finding(rule="skill/body-too-long", message=message, line=front.body_line)


def _is_null(value: Value) -> bool:
    return value.text is None and not value.is_nested
