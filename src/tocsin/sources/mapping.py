"""From a row to an `Item`: the one place that decides kinds, joins parts and keeps metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from pydantic import JsonValue

from tocsin.core.records import Abstention, Item, Kind, Origin, Reason, Turn
from tocsin.sources.chats import chat_kind, is_message_list, read_chat
from tocsin.sources.columns import Columns, Plan, make_plan, missing_column
from tocsin.sources.limits import Limits
from tocsin.sources.rows import Row

_METADATA_CHARS = 2_000
_METADATA_NODES = 100
"""Brackets of a nested value that is kept as it is, and so its depth; more are kept as text."""
_CACHED_PLANS = 256
_INT64 = 1 << 63


class _BadRowError(Exception):
    """A row that cannot become an item; carries the abstention."""

    def __init__(self, detail: str, reason: Reason = Reason.MISSING_PART) -> None:
        self.abstention = Abstention(reason=reason, detail=detail)
        super().__init__(detail)


class RowMapper:
    """Makes items from the rows of one input. Plans are made once for each set of column names."""

    def __init__(self, columns: Columns, limits: Limits) -> None:
        self._columns = columns
        self._limits = limits
        self._plans: dict[tuple[str, ...], Plan | None] = {}

    def plan(self, names: tuple[str, ...]) -> Plan | None:
        """The plan for rows with these columns; None when they hold no text."""
        try:
            return self._plans[names]
        except KeyError:
            plan = make_plan(names, self._columns)
            if len(self._plans) < _CACHED_PLANS:
                self._plans[names] = plan
            return plan

    def unread(self, value: Mapping[str, object]) -> list[str]:
        """Columns of a row that hold text which no item shows."""
        plan = self.plan(tuple(value))
        return [] if plan is None else plan.unread(value)

    def understands(self, row: Row) -> bool:
        """Whether the row has a text column (its value may still be wrong) and every named column."""
        value = row.value
        if isinstance(value, dict):
            plan = self.plan(tuple(value))
            if plan is None:
                return False
            kept = {key for key, _ in plan.kept}
            return all(
                name in kept for name in (self._columns.label, self._columns.group) if name is not None
            )
        return not self._columns.named and (isinstance(value, str) or is_message_list(value))

    def item(self, row: Row, origin: Origin) -> Item:
        """The item for a row; every difficulty is a problem or a note on it."""
        problem = row.problem
        if problem is None:
            try:
                return self._read(row, origin)
            except _BadRowError as error:
                problem = error.abstention
        kind = self._columns.as_kind or Kind.PROMPT
        return Item(kind=kind, origin=origin, problem=problem, partial=row.notes)

    def _read(self, row: Row, origin: Origin) -> Item:
        value = row.value
        notes = list(row.notes)
        if isinstance(value, str) and not self._columns.named:
            kind = self._columns.as_kind or Kind.PROMPT
            return self._text_item(value, None, kind, origin, notes, {})
        if isinstance(value, list) and is_message_list(value) and not self._columns.named:
            return self._chat_item(value, origin, notes, {})
        if not isinstance(value, dict):
            message = f"expected an object with columns, got {_type_name(value)}."
            raise _BadRowError(message, Reason.UNREADABLE)
        plan = self.plan(tuple(value))
        if plan is None:
            raise _BadRowError(missing_column(value, self._columns))
        metadata = {key: self._metadata(value[column]) for key, column in plan.kept}
        if plan.chat is not None and isinstance(messages := value[plan.chat], list):
            return self._chat_item(messages, origin, notes, metadata)
        return self._planned_item(value, plan, origin, notes, metadata)

    def _planned_item(
        self,
        value: Mapping[str, object],
        plan: Plan,
        origin: Origin,
        notes: list[str],
        metadata: dict[str, JsonValue],
    ) -> Item:
        if plan.text is None:
            message = (
                f'expected a list of messages in "{plan.chat}", got {_type_name(value.get(plan.chat or ""))}.'
            )
            raise _BadRowError(message)
        examined = value[plan.text]
        if isinstance(examined, list) and is_message_list(examined):
            return self._chat_item(examined, origin, notes, metadata)
        text = _string(examined, plan.text)
        prompt = None if plan.prompt is None else _string(value[plan.prompt], plan.prompt)
        if plan.joined is not None and (extra := value[plan.joined]) not in (None, ""):
            continued = "\n\n" + _string(extra, plan.joined)
            if prompt is None:
                text += continued
            else:
                prompt += continued
        return self._text_item(text, prompt, plan.kind, origin, notes, metadata)

    def _text_item(
        self,
        text: str,
        prompt: str | None,
        kind: Kind,
        origin: Origin,
        notes: list[str],
        metadata: dict[str, JsonValue],
    ) -> Item:
        text = self._clean(text, notes)
        prompt = None if prompt is None else self._clean(prompt, notes)
        problem = None
        if not text.strip() and not (prompt or "").strip():
            problem = Abstention(reason=Reason.EMPTY, detail="expected text, got nothing but white space.")
        turns: tuple[Turn, ...] = ()
        if kind is Kind.CHAT:
            request = text if prompt is None else prompt
            answer = () if prompt is None else (Turn(role="assistant", text=text),)
            turns = (Turn(role="user", text=request), *answer)
            text, prompt = "", None
        elif prompt is not None and kind not in (Kind.RESPONSE, Kind.TRAINING_SAMPLE):
            # The caller asked for single texts from rows that have two: the request is the text.
            text, prompt = prompt, None
        return Item(
            kind=kind,
            text=text,
            prompt=prompt,
            turns=turns,
            metadata=metadata,
            origin=origin,
            problem=problem,
            partial=tuple(notes),
        )

    def _chat_item(
        self, messages: list[object], origin: Origin, notes: list[str], metadata: dict[str, JsonValue]
    ) -> Item:
        chat = read_chat(messages, self._limits, self._clean)
        if chat.problem:
            raise _BadRowError(chat.problem, Reason.UNREADABLE)
        kind = self._columns.as_kind or chat_kind(chat.turns)
        if kind not in (Kind.CHAT, Kind.TRAINING_SAMPLE):
            message = f"expected a text to read as {kind}, got a list of messages."
            raise _BadRowError(message)
        problem = None
        if not any(turn.text.strip() for turn in chat.turns):
            problem = Abstention(reason=Reason.EMPTY, detail="expected turns with text, got none.")
        return Item(
            kind=kind,
            turns=chat.turns,
            metadata=metadata,
            origin=origin,
            problem=problem,
            partial=(*notes, *chat.notes),
        )

    def _clean(self, text: str, notes: list[str]) -> str:
        limit = self._limits.chars_per_item
        if len(text) > limit:
            notes.append(f"only the first {limit:,} of {len(text):,} characters were read")
            text = text[:limit]
        storable = storable_text(text)
        if storable is not text:
            notes.append("code points that are no characters (lone surrogates) were replaced")
        return storable

    def _metadata(self, value: object) -> JsonValue:
        """A JSON value of bounded size; what is larger is cut to text."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -_INT64 <= value < _INT64 else str(value)[:_METADATA_CHARS]
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return storable_text(value[:_METADATA_CHARS])
        try:
            shown = json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            return "(nested too deeply to be kept)"
        if len(shown) > _METADATA_CHARS or shown.count("[") + shown.count("{") > _METADATA_NODES:
            return storable_text(shown[:_METADATA_CHARS])
        result: JsonValue = json.loads(storable_text(shown))
        return result


def storable_text(text: str) -> str:
    """The same string, or one in which lone surrogates became replacement characters."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _string(value: object, column: str) -> str:
    if isinstance(value, str):
        return value
    shown = column if column.isidentifier() and len(column) <= 32 else "the text column"
    message = f'expected a string in "{shown}", got {_type_name(value)}.'
    raise _BadRowError(message)


def _type_name(value: object) -> str:
    """Plain word for a JSON type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "another type")
