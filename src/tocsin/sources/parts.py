"""The pieces an input is made of: data files, skills, and places that could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tocsin.core.errors import InputError
from tocsin.core.records import Abstention, Item, Kind, Origin, Reason
from tocsin.sources.files import FileStamp, display_name, file_stamp, open_regular
from tocsin.sources.formats import Format
from tocsin.sources.ignore import IgnoreRules
from tocsin.sources.limits import Limits
from tocsin.sources.mapping import RowMapper
from tocsin.sources.skills import load_skill, skill_item
from tocsin.sources.walk import SkillPlace, Trouble


class Part(Protocol):
    """A piece of an input that yields items, in order."""

    @property
    def total(self) -> int | None:
        """Number of items, an upper bound of it, or None when it is not cheap to know."""

    def items(self, input_hash: str, first_ordinal: int) -> Iterator[Item]:
        """Items numbered from `first_ordinal`."""
        ...


@dataclass(frozen=True, slots=True)
class RowsPart:
    """A data file."""

    path: Path
    shown: str
    format: Format
    stamp: FileStamp
    mapper: RowMapper
    limits: Limits
    total: int | None

    def items(self, input_hash: str, first_ordinal: int) -> Iterator[Item]:
        """One item for each row; an InputError when the file was changed since it was opened."""
        with open_regular(self.path) as stream:
            if file_stamp(stream) != self.stamp:
                message = (
                    "expected an unchanged file, got one that was changed after it was opened. Scan it again."
                )
                raise InputError(message, path=self.shown)
        ordinal = first_ordinal
        for row in self.format.read(self.path, self.limits):
            origin = Origin(input_hash=input_hash, ordinal=ordinal, path=self.shown, line=row.line)
            yield self.mapper.item(row, origin)
            ordinal += 1


@dataclass(frozen=True, slots=True)
class SkillPart:
    """A skill."""

    root: Path
    place: SkillPlace
    digest: bytes
    ignore: IgnoreRules
    limits: Limits
    kept: tuple[str, ...]
    total: int | None = 1

    def items(self, input_hash: str, first_ordinal: int) -> Iterator[Item]:
        """One item; a problem when the skill was changed since it was opened."""
        raw = load_skill(self.root, self.place, self.ignore, self.limits)
        shown = display_name(self.place.path)
        origin = Origin(input_hash=input_hash, ordinal=first_ordinal, path=shown)
        if raw.digest != self.digest:
            detail = (
                "expected an unchanged skill, got one that was changed after the scan began. Scan it again."
            )
            problem = Abstention(reason=Reason.UNREADABLE, detail=detail)
            yield Item(kind=Kind.SKILL, origin=origin, problem=problem)
        else:
            yield skill_item(self.root, self.place, raw, origin, self.limits, self.kept)


@dataclass(frozen=True, slots=True)
class TroublePart:
    """A place that could not be read."""

    trouble: Trouble
    total: int | None = 1

    def items(self, input_hash: str, first_ordinal: int) -> Iterator[Item]:
        """One item with the problem."""
        origin = Origin(input_hash=input_hash, ordinal=first_ordinal, path=self.trouble.path)
        yield Item(kind=self.trouble.kind, origin=origin, problem=self.trouble.problem)
