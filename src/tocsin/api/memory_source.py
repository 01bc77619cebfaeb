"""Texts and items of the caller's own as an input: hashed as a whole, kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from pydantic import JsonValue

from tocsin.core.errors import UsageError
from tocsin.core.records import Abstention, Item, Kind, Origin, Reason


class Input(Protocol):
    """What a scan needs of its input; `tocsin.sources.Source` is one."""

    name: str
    input_hash: str
    notices: tuple[str, ...]

    @property
    def total(self) -> int | None:
        """Number of items, or an upper bound; None where it is not known."""
        ...

    def items(self) -> Iterator[Item]:
        """Every item in a fixed order; each call begins anew."""
        ...

    def describe(self) -> dict[str, JsonValue]:
        """What a run record keeps of the input."""
        ...


class MemorySource:
    """A list of texts or items as an input.

    Args:
        given: Texts, which become prompts, or items, which keep their keys. All of one sort.

    Raises:
        UsageError: If something else is among them, or items do not have keys of one input, each its own.
    """

    name = "(in memory)"
    notices: tuple[str, ...] = ()

    def __init__(self, given: Iterable[str] | Iterable[Item]) -> None:
        parts: Sequence[str | Item] = list(given)
        digest = hashlib.sha256()
        for part in parts:
            if not isinstance(part, (str, Item)) or type(part) is not type(parts[0]):
                message = f"expected texts, or items, got {_sorts(parts)}. Give a list of one sort."
                raise UsageError(message)
            content = part if isinstance(part, str) else f"{part.key} {part.content_hash}"
            encoded = content.encode("utf-8", "surrogatepass")
            digest.update(f"{len(encoded)}\0".encode() + encoded)
        self.input_hash = digest.hexdigest()
        self._items = [
            part if isinstance(part, Item) else self._prompt(part, ordinal)
            for ordinal, part in enumerate(parts)
        ]
        self._check_keys()

    def _prompt(self, text: str, ordinal: int) -> Item:
        origin = Origin(input_hash=self.input_hash, ordinal=ordinal)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            problem = Abstention(reason=Reason.UNREADABLE, detail="the text holds lone surrogates")
            return Item(kind=Kind.PROMPT, origin=origin, problem=problem)
        return Item(kind=Kind.PROMPT, text=text, origin=origin)

    def _check_keys(self) -> None:
        hashes = {item.origin.input_hash for item in self._items}
        if len(hashes) > 1 or len({item.origin.ordinal for item in self._items}) < len(self._items):
            message = (
                "expected items of one input, each with its own running number, got equal keys or several "
                "inputs. Give each item an `origin` of its own."
            )
            raise UsageError(message)

    @property
    def total(self) -> int:
        """Number of items."""
        return len(self._items)

    def items(self) -> Iterator[Item]:
        """Every item, in order."""
        return iter(self._items)

    def describe(self) -> dict[str, JsonValue]:
        """Hash and size."""
        return {"name": self.name, "input_hash": self.input_hash, "total": self.total}


def _sorts(parts: Sequence[object]) -> str:
    return " and ".join(sorted({type(part).__name__ for part in parts}))
