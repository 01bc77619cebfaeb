"""Which columns of a row hold what: found by well-known names, or named by the caller."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from tocsin.core.errors import UsageError
from tocsin.core.records import Kind
from tocsin.sources.chats import is_message_list

CHAT_NAMES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
REQUEST_NAMES = ("prompt", "instruction", "question", "query", "request", "user", "goal", "input")
ANSWER_NAMES = ("response", "completion", "output", "answer", "assistant", "reply", "generation", "chosen")
TEXT_NAMES = (
    "text",
    "prompt",
    "instruction",
    "question",
    "goal",
    "query",
    "request",
    "input",
    "content",
    "message",
    "utterance",
    "behavior",
    "behaviour",
    "sentence",
    "comment",
    "comment_text",
    "test_case",
    "tweet",
    "post",
    "caption",
    "user",
)
_USUAL_TEXT = {*CHAT_NAMES, *REQUEST_NAMES, *ANSWER_NAMES, *TEXT_NAMES, "system", "rejected", "context"}
ID_NAMES = ("id", "_id", "uid", "uuid")
ROW_KINDS = (Kind.PROMPT, Kind.RESPONSE, Kind.CHAT, Kind.TRAINING_SAMPLE, Kind.CODE, Kind.MESSAGE)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_SHOWN_NAMES = 12
_TEXT_WORDS = 4
"""Words from which a value counts as text, rather than as a label, a name or a number."""
NameLookup = Callable[[str], str | None]
NameSearch = Callable[[Iterable[str]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The caller's wishes; None means: find it."""

    text: str | None = None
    prompt: str | None = None
    label: str | None = None
    group: str | None = None
    keep: tuple[str, ...] = ()
    """Further columns kept in the metadata under their own names, where a row has them."""
    as_kind: Kind | None = None

    def __post_init__(self) -> None:
        if self.as_kind is not None and self.as_kind not in ROW_KINDS:
            kinds = ", ".join(ROW_KINDS)
            message = f"expected one of {kinds} as the kind of rows, got {self.as_kind}."
            raise UsageError(message)

    @property
    def kept(self) -> tuple[str | None, ...]:
        """Columns whose values go into the metadata."""
        return (self.label, self.group, *self.keep)

    @property
    def named(self) -> tuple[str, ...]:
        """Columns that must be there."""
        return tuple(name for name in (self.text, self.prompt, self.label, self.group) if name is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How rows with one set of columns become items. At least one of `chat` and `text` is set."""

    chat: str | None = None
    """Column that may hold a list of messages."""
    text: str | None = None
    """Column of the text that is examined (the answer, when `prompt` is set)."""
    prompt: str | None = None
    """Column of the request that belongs to `text`."""
    joined: str | None = None
    """Column that continues the request (Alpaca's `input`)."""
    kind: Kind = Kind.PROMPT
    """Kind of an item made from `text`."""
    kept: tuple[tuple[str, str], ...] = ()
    """(key in the item's metadata, column)."""

    def unread(self, row: Mapping[str, object]) -> list[str]:
        """Columns of a row with text that no item shows: strings of several words, lists of messages."""
        rest = {name: value for name, value in row.items() if name not in self.columns}
        return [
            name
            for name, value in rest.items()
            if (isinstance(value, str) and len(value.split()) >= _TEXT_WORDS) or is_message_list(value)
        ]

    def unread_names(self, names: Iterable[str]) -> list[str]:
        """The same from names alone, where values are not at hand: those that usually hold text."""
        return [name for name in names if name not in self.columns and name.strip().lower() in _USUAL_TEXT]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        parts = (self.chat, self.text, self.prompt, self.joined, *(column for _, column in self.kept))
        return tuple(dict.fromkeys(part for part in parts if part is not None))


def make_plan(names: Collection[str], wanted: Columns) -> Plan | None:
    """Choose columns for rows that have these names; None when no text is found or a named text is missing.

    Names are compared without regard to case and surrounding space; an exact match goes first. Found columns
    are taken in this order: a list of messages; a request and its answer; a single text. A named text column
    alone gives prompts; named together with a prompt column it gives responses.
    """
    by_lower = {name.strip().lower(): name for name in reversed(list(names))}

    def find(candidates: Iterable[str]) -> str | None:
        return next((by_lower[name] for name in candidates if name in by_lower), None)

    def named(name: str) -> str | None:
        return name if name in names else by_lower.get(name.strip().lower())

    kept = tuple(
        (key, column)
        for key, column in (
            ("id", find(ID_NAMES)),
            *((name, named(name)) for name in wanted.kept if name is not None),
        )
        if column is not None
    )
    if wanted.text is not None or wanted.prompt is not None:
        return _named_plan(wanted, named, find, kept)
    request = find(REQUEST_NAMES)
    answer = find(ANSWER_NAMES)
    chat = find(CHAT_NAMES)
    instruction = find(("instruction",))
    joined = find(("input",)) if instruction is not None else None
    if request is not None and answer is not None:
        if joined is not None:
            request = instruction
        return Plan(
            chat=chat,
            text=answer,
            prompt=request,
            joined=joined,
            kind=wanted.as_kind or Kind.TRAINING_SAMPLE,
            kept=kept,
        )
    text = instruction if joined is not None else find(TEXT_NAMES)
    if text is None and chat is None:
        return None
    return Plan(chat=chat, text=text or chat, joined=joined, kind=wanted.as_kind or Kind.PROMPT, kept=kept)


def _named_plan(
    wanted: Columns,
    named: NameLookup,
    find: NameSearch,
    kept: tuple[tuple[str, str], ...],
) -> Plan | None:
    prompt = named(wanted.prompt) if wanted.prompt is not None else None
    if wanted.text is not None:
        text = named(wanted.text)
    else:
        text = find(
            name for name in (*ANSWER_NAMES, *TEXT_NAMES) if prompt is None or name != prompt.strip().lower()
        )
    if text is None or (wanted.prompt is not None and prompt is None):
        return None
    kind = wanted.as_kind or (Kind.RESPONSE if prompt is not None else Kind.PROMPT)
    return Plan(chat=text, text=text, prompt=prompt, kind=kind, kept=kept)


def missing_column(names: Iterable[str] | None, wanted: Columns) -> str:
    """What to say when no text column was found. Shows only names that look like identifiers."""
    if wanted.named:
        expected = "the named columns " + ", ".join(repr(name) for name in wanted.named)
    else:
        expected = "a column of text (" + ", ".join(TEXT_NAMES[:8]) + ", messages, ...)"
    if names is None:
        return f"expected {expected}, got rows without columns. Name the text column with --text."
    got = shown_names(names) or "no usable column names"
    return f"expected {expected}, got {got}. Name the text column with --text."


def shown_names(names: Iterable[str]) -> str:
    """Names for a message: only those that look like identifiers, since a header may hold examined text."""
    known = [name for name in names if _IDENTIFIER.fullmatch(name)]
    return ", ".join(known[:_SHOWN_NAMES]) + (", ..." if len(known) > _SHOWN_NAMES else "")
