"""`open_source`: one door to every input, and `Source`, the stream of items behind it."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import JsonValue

from tocsin.core.errors import InputError
from tocsin.core.records import Abstention, Item, Kind, Reason
from tocsin.sources.columns import Columns, missing_column, shown_names
from tocsin.sources.files import (
    CHUNK_BYTES,
    NoTextError,
    UnreadableFileError,
    digest_file,
    display_name,
    kind_of_file,
)
from tocsin.sources.formats import Format, find_format
from tocsin.sources.ignore import IGNORE_FILE, IgnoreRules
from tocsin.sources.limits import Limits
from tocsin.sources.mapping import RowMapper
from tocsin.sources.parquet import parquet_rows, parquet_shape
from tocsin.sources.parts import Part, RowsPart, SkillPart, TroublePart
from tocsin.sources.rows import Row
from tocsin.sources.skills import load_skill
from tocsin.sources.walk import (
    SKILL_FILE,
    DataPlace,
    FolderIndex,
    SkillPlace,
    Trouble,
    index_folder,
    resolve_inside,
)

STDIN = "-"
_SNIFFED_ROWS = 100
_NAMED_IN_NOTICE = 10


@dataclass(eq=False)
class Source:
    """An opened input: its identity, its items, and what was left out."""

    name: str
    """As the caller gave it."""
    input_hash: str
    """SHA-256 of a file's bytes; of a folder, over the sorted paths and hashes of everything that is read."""
    formats: dict[str, int]
    """How many files of each format, and how many skills."""
    notices: tuple[str, ...]
    """What was left out and why, for people; paths only."""
    ignored: int
    """Paths left out by ignore rules."""
    columns: Columns
    limits: Limits
    _parts: tuple[Part, ...] = field(repr=False)

    @property
    def total(self) -> int | None:
        """Number of items for a progress bar; None when it is not cheap to know.

        For text files it counts lines, so blank lines and records over several lines make it an upper bound.
        """
        totals = [part.total for part in self._parts]
        return sum(total for total in totals if total is not None) if None not in totals else None

    def items(self) -> Iterator[Item]:
        """Every item in a fixed order, streamed; each call begins anew.

        Raises:
            InputError: If a data file was changed since the source was opened.
        """
        ordinal = 0
        for part in self._parts:
            for item in part.items(self.input_hash, ordinal):
                ordinal = item.origin.ordinal + 1
                yield item

    def describe(self) -> dict[str, JsonValue]:
        """What a run record keeps of the input."""
        columns: dict[str, JsonValue] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.columns).items()
            if value
        }
        limits: dict[str, JsonValue] = dict(asdict(self.limits))
        return {
            "name": self.name,
            "input_hash": self.input_hash,
            "formats": dict(self.formats),
            "total": self.total,
            "ignored": self.ignored,
            "notices": list(self.notices),
            "columns": columns,
            "limits": limits,
        }


def open_source(
    path: Path | str,
    *,
    text: str | None = None,
    prompt: str | None = None,
    label: str | None = None,
    group: str | None = None,
    keep: Sequence[str] = (),
    as_kind: Kind | None = None,
    limits: Limits | None = None,
    ignore: Sequence[str] = (),
) -> Source:
    """Open a file, a folder or standard input for reading.

    Args:
        path: A `.txt`, `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` or `.parquet` file; a SKILL.md; a folder
            with skills, data files or both, at any depth; or `-` for standard input (text, JSON or Parquet by
            content).
        text: Column of the examined text; found by well-known names when None.
        prompt: Column of the request that the text answers: rows become responses.
        label: Column kept in `Item.metadata` under its own name.
        group: Another such column: items that share its value share a source.
        keep: Further columns kept in the metadata, where a row has them.
        as_kind: Kind of the rows, where the rules of `docs/inputs.md` would choose another.
        limits: Bounds of reading.
        ignore: Patterns of paths to leave out, in gitignore syntax. A `.tocsinignore` in the folder is not
            obeyed; `read_ignore_file` reads one that the caller trusts.

    Returns:
        The opened source. The input was hashed and its beginning understood; nothing is held open.

    Raises:
        InputError: If the whole input cannot be read: missing, binary, damaged, without text, empty.
        UsageError: If patterns, kinds or limits cannot be used.
        MissingExtraError: If a Parquet file is given and the extra `parquet` is not installed.
    """
    columns = Columns(text=text, prompt=prompt, label=label, group=group, keep=tuple(keep), as_kind=as_kind)
    opener = _Opener(columns, limits or Limits())
    if str(path) == STDIN:
        return opener.stdin()
    given = Path(path)
    try:
        mode = given.stat().st_mode
    except (OSError, ValueError) as error:
        reason = (
            (error.strerror or "unknown error").lower() if isinstance(error, OSError) else "unusable name"
        )
        message = f"expected a file or a folder, got: {reason}. Check the path."
        raise InputError(message, path=given) from error
    if stat.S_ISDIR(mode):
        return opener.folder(given, ignore)
    if stat.S_ISREG(mode):
        return opener.skill_file(given) if given.name.lower() == SKILL_FILE.lower() else opener.file(given)
    message = (
        f"expected a file or a folder, got {kind_of_file(mode)}. Pipe its content in and scan - instead."
    )
    raise InputError(message, path=given)


class _Opener:
    """Opens the four sorts of input with one set of columns and limits."""

    def __init__(self, columns: Columns, limits: Limits) -> None:
        self._columns = columns
        self._limits = limits
        self._unread: dict[str, list[str]] = {}
        """Text columns that are not read, by file."""

    def _unread_notice(self) -> list[str]:
        """Says which text columns of the first rows are not read. Silent where the caller chose columns."""
        if self._columns.text is not None or not self._unread:
            return []
        shown = [f"{file} ({names})" for file, found in self._unread.items() if (names := shown_names(found))]
        more = ", ..." if len(shown) > _NAMED_IN_NOTICE else ""
        hint = "--text names another column to read"
        return (
            [f"text columns not read: {', '.join(shown[:_NAMED_IN_NOTICE])}{more}; {hint}"] if shown else []
        )

    def _source(
        self,
        name: str,
        input_hash: str,
        formats: dict[str, int],
        parts: Sequence[Part],
        notices: Sequence[str] = (),
        ignored: int = 0,
    ) -> Source:
        return Source(
            name,
            input_hash,
            formats,
            tuple(notices),
            ignored,
            self._columns,
            self._limits,
            _parts=tuple(parts),
        )

    def file(self, path: Path) -> Source:
        """A single data file."""
        try:
            rows, digest = self._rows(path.resolve(), display_name(path.name))
        except UnreadableFileError as error:
            raise InputError(error.detail, path=path, line=error.line) from error
        return self._source(str(path), digest, {rows.format.name: 1}, [rows], self._unread_notice())

    def stdin(self) -> Source:
        """Standard input, spooled to a temporary file that lives as long as the source."""
        descriptor, name = tempfile.mkstemp(prefix="tocsin-stdin-")
        try:
            with os.fdopen(descriptor, "wb") as spool:
                left = self._limits.data_file_bytes
                while left > 0 and (piece := sys.stdin.buffer.read(min(CHUNK_BYTES, left))):
                    spool.write(piece)
                    left -= len(piece)
            if left == 0 and sys.stdin.buffer.read(1):
                message = (
                    f"expected at most {self._limits.data_file_bytes:,} bytes, got more. Split the input."
                )
                raise UnreadableFileError(message)
            rows, digest = self._rows(Path(name), STDIN, is_stdin=True)
        except UnreadableFileError as error:
            Path(name).unlink()
            raise InputError(error.detail, path="standard input", line=error.line) from error
        except BaseException:
            Path(name).unlink()
            raise
        source = self._source(STDIN, digest, {rows.format.name: 1}, [rows], self._unread_notice())
        weakref.finalize(source, Path(name).unlink, missing_ok=True)
        return source

    def skill_file(self, path: Path) -> Source:
        """A SKILL.md by its own path: the skill of its folder, without skills nested in it."""
        root = path.parent.resolve()
        place = SkillPlace("", path.name)
        part = self._skill(root, place, IgnoreRules())
        return self._source(str(path), _hash_of([(place.path, part.digest.hex())]), {"skill": 1}, [part])

    def folder(self, path: Path, patterns: Sequence[str]) -> Source:
        """Skills and data files of a folder."""
        root = path.resolve()
        try:
            names = os.listdir(root)  # noqa: PTH208 - names only
        except OSError as error:
            message = f"expected a readable folder, got: {(error.strerror or 'an error').lower()}."
            raise InputError(message, path=path) from error
        ignore = IgnoreRules(patterns)
        index = index_folder(root, ignore, self._limits)
        parts: list[Part] = []
        hashes: list[tuple[str, str]] = []
        formats: dict[str, int] = {}
        without_text: list[str] = []
        for place in index.places:
            part, digest, sort = self._place(root, place, ignore, without_text)
            if part is None:
                continue
            parts.append(part)
            hashes.append((place.path, digest))
            formats[sort] = formats.get(sort, 0) + 1
        if not parts:
            message = "expected skills (folders with a SKILL.md) or data files, got a folder without any"
            message += f" ({index.unknown.count} other files, {len(without_text)} data files without text, "
            message += f"{index.ignored.count} ignored). Give another folder or a file."
            raise InputError(message, path=path)
        notices = _notices(index, without_text) + self._unread_notice()
        if IGNORE_FILE in names and not patterns:
            notices.append(
                f"a {IGNORE_FILE} inside the scanned folder is not obeyed; --ignore-file names one that is"
            )
        return self._source(str(path), _hash_of(hashes), formats, parts, notices, index.ignored.count)

    def _place(
        self,
        root: Path,
        place: SkillPlace | DataPlace | Trouble,
        ignore: IgnoreRules,
        without_text: list[str],
    ) -> tuple[Part | None, str, str]:
        """The part for a place, its hash, and its sort; no part for a data file that holds no text."""
        if isinstance(place, Trouble):
            return TroublePart(place), place.problem.detail, "unreadable"
        if isinstance(place, SkillPlace):
            skill = self._skill(root, place, ignore)
            return skill, skill.digest.hex(), "skill"
        shown = display_name(place.path)
        target = resolve_inside(root, root / place.path)
        try:
            if target is None:
                message = "expected a file inside the scanned folder, got a link that leaves it."
                raise UnreadableFileError(message)
            rows, digest = self._rows(target, shown)
        except NoTextError as error:
            without_text.append(f"{shown} ({error.detail.rstrip('.')})")
            return None, "", ""
        except UnreadableFileError as error:
            problem = Abstention(reason=Reason.UNREADABLE, detail=error.detail)
            return TroublePart(Trouble(shown, problem, Kind.PROMPT)), error.detail, "unreadable"
        return rows, digest, rows.format.name

    def _skill(self, root: Path, place: SkillPlace, ignore: IgnoreRules) -> SkillPart:
        raw = load_skill(root, place, ignore, self._limits)
        kept = tuple(name for name in self._columns.kept if name is not None)
        return SkillPart(root, place, raw.digest, ignore, self._limits, kept)

    def _rows(self, path: Path, shown: str, *, is_stdin: bool = False) -> tuple[RowsPart, str]:
        """A data file whose format is known and whose first rows were understood, and its hash."""
        file_format = find_format(path, self._limits, is_stdin=is_stdin)
        mapper = RowMapper(self._columns, self._limits)
        total: int | None = None
        try:
            if file_format.name == "parquet":
                shape = parquet_shape(path)
                plan = mapper.plan(shape.columns)
                if plan is None:
                    raise NoTextError(missing_column(shape.columns, self._columns))
                if unread := plan.unread_names(shape.columns):
                    self._unread[shown] = unread
                file_format = Format("parquet", functools.partial(parquet_rows, columns=plan.columns))
                total = shape.rows
            self._require_text_rows(file_format, path, mapper, shown)
            digest = digest_file(path)
        except OSError as error:
            message = f"expected a readable file, got: {(error.strerror or 'an error').lower()}."
            raise UnreadableFileError(message) from error
        if file_format.name in ("text", "jsonl"):
            total = digest.lines
        elif file_format.name in ("csv", "tsv"):
            total = digest.lines - 1
        return RowsPart(path, shown, file_format, digest.stamp, mapper, self._limits, total), digest.sha256

    def _require_text_rows(self, file_format: Format, path: Path, mapper: RowMapper, shown: str) -> None:
        """Read the first rows until one of them has a text.

        Raises:
            UnreadableFileError: If none of them can be read.
            NoTextError: If they can be read but hold no text column, or there are no rows.
        """
        first_problem: Row | None = None
        names: list[str] | None = None
        seen = 0
        for row in file_format.read(path, self._limits):
            seen += 1
            if row.problem is not None:
                first_problem = first_problem or row
            elif mapper.understands(row):
                if isinstance(row.value, dict) and (unread := mapper.unread(row.value)):
                    self._unread[shown] = unread
                return
            elif isinstance(row.value, dict) and names is None:
                names = [str(name) for name in row.value]
            if seen >= _SNIFFED_ROWS:
                break
        if names is None and first_problem is not None and first_problem.problem is not None:
            raise UnreadableFileError(first_problem.problem.detail, line=first_problem.line)
        if seen == 0:
            message = "expected at least one row, got none."
            raise NoTextError(message)
        raise NoTextError(missing_column(names, self._columns))


def _hash_of(pairs: list[tuple[str, str]]) -> str:
    """SHA-256 over sorted (path, hash) lines."""
    hasher = hashlib.sha256()
    for path, digest in sorted((os.fsencode(path), digest) for path, digest in pairs):
        hasher.update(path + b"\0" + digest.encode() + b"\n")
    return hasher.hexdigest()


def _notices(index: FolderIndex, without_text: list[str]) -> list[str]:
    notices = []
    if index.unknown.count:
        notices.append(f"{index.unknown.count} file(s) of other types were not read: {index.unknown}")
    if without_text:
        more = ", ..." if len(without_text) > _NAMED_IN_NOTICE else ""
        shown = ", ".join(without_text[:_NAMED_IN_NOTICE])
        notices.append(f"{len(without_text)} data file(s) hold no text to examine: {shown}{more}")
    if index.ignored.count:
        notices.append(f"{index.ignored.count} path(s) were left out by ignore rules: {index.ignored}")
    return notices
