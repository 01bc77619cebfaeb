"""The numbers that bound what is read from hostile input. `docs/inputs.md` lists them for users."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tocsin.core.errors import UsageError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of reading. Reaching one leaves a note or a problem on the item: it is never reported as clean.

    All values are whole numbers of at least 1. Raise one for trusted data with unusually large records.

    Raises:
        UsageError: If a value is below 1.
    """

    data_file_bytes: int = 64 * GIB
    """Size of a data file, and of what is read from standard input."""
    record_bytes: int = 8 * MIB
    """One line of text or JSONL, one CSV record (it may span lines), one element of a JSON array."""
    chars_per_item: int = 1_000_000
    """Characters of one text: a prompt, an answer, one turn of a chat."""
    turns_per_chat: int = 2_000
    """Turns of one chat; the last ones are kept, because the last user turn is what detectors examine."""
    content_depth: int = 4
    """Nesting of content parts inside one message."""
    row_group_bytes: int = 2 * GIB
    """Declared uncompressed size of one row group of a Parquet file."""
    skill_md_bytes: int = 1 * MIB
    """Size of a SKILL.md; the part beyond is not read."""
    front_matter_bytes: int = 64 * KIB
    """Size of the block between the two `---` lines."""
    front_matter_nodes: int = 2_000
    """Keys and values of the front matter, at all levels together."""
    front_matter_depth: int = 20
    """Nesting of the front matter."""
    front_matter_chars: int = 20_000
    """Characters of one front matter value, such as the description."""
    header_lines: int = 10_000
    """Lines of a SKILL.md in which section headers are looked for."""
    headers: int = 500
    """Section headers of one skill."""
    header_chars: int = 300
    """Characters of one section header."""
    files_per_skill: int = 1_000
    """Files listed for one skill."""
    hashed_file_bytes: int = 32 * MIB
    """A larger file of a skill is listed with its size but not hashed."""
    hashed_skill_bytes: int = 256 * MIB
    """Bytes hashed for one skill in all; files beyond are listed but not hashed."""
    skills: int = 100_000
    """Skills of one folder."""
    data_files: int = 10_000
    """Data files of one folder."""
    folder_depth: int = 32
    """Nesting of folders below the one that is scanned."""
    folder_entries: int = 2_000_000
    """Files and folders visited in one folder tree."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                message = f"expected the limit {name} to be at least 1, got {value}."
                raise UsageError(message)
