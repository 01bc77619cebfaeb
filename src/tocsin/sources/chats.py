"""Lists of messages: OpenAI style (`role`, `content`) and ShareGPT style (`from`, `value`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from tocsin.core.records import Kind, Turn
from tocsin.sources.limits import Limits

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "function_call": "assistant",
    "observation": "tool",
    "tool_response": "tool",
}
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
_PART_FIELDS = ("text", "content", "refusal", "thinking")

Cleaner = Callable[[str, list[str]], str]
"""Makes a text storable and appends a note for everything it changed."""


class Chat(NamedTuple):
    """Turns, and notes of what was left out; without turns, `problem` says why."""

    turns: tuple[Turn, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


def is_message_list(value: object) -> bool:
    """True for a non-empty list whose first element looks like a message."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return "role" in value[0] or "from" in value[0]


def chat_kind(turns: tuple[Turn, ...]) -> Kind:
    """A list that ends with the assistant's answer is a fine-tuning sample; any other is a chat log."""
    return Kind.TRAINING_SAMPLE if turns and turns[-1].role == "assistant" else Kind.CHAT


def read_chat(messages: list[object], limits: Limits, clean: Cleaner) -> Chat:
    """Turn a list of messages into turns, leniently: what is not text is left out with a note.

    An unknown role is read as `user`, so that its text is examined; a tool call as its name and arguments.
    """
    notes: list[str] = []
    first = max(0, len(messages) - limits.turns_per_chat)
    if first:
        notes.append(f"only the last {limits.turns_per_chat:,} of {len(messages):,} turns were read")
    turns = []
    for number, message in enumerate(messages[first:], start=first + 1):
        if not isinstance(message, dict):
            return Chat(
                problem=f"expected turn {number} to be an object with a role and a content, got another type."
            )
        role = message.get("role", message.get("from"))
        known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            notes.append(f"turn {number} has no known role and was read as the user's")
        content = message.get("content", message.get("value"))
        texts: list[str] = []
        left_out = _collect(content, texts, limits.content_depth)
        left_out += _collect_calls(message, texts)
        if left_out:
            notes.append(f"turn {number} holds {left_out} part(s) that are not text; they were not read")
        turns.append(Turn(role=known or "user", text=clean("\n".join(texts), notes)))
    return Chat(tuple(turns), tuple(notes))


def _collect(content: object, texts: list[str], depth: int) -> int:
    """Append the texts of a content in order; count the parts that are not text."""
    if content is None:
        return 0
    if isinstance(content, str):
        texts.append(content)
        return 0
    if depth == 0:
        return 1
    if isinstance(content, list):
        return sum(_collect(part, texts, depth - 1) for part in content)
    if isinstance(content, dict):
        kind = content.get("type")
        if kind in {"tool_use", "function_call"}:
            texts.append(_call_text(content.get("name"), content.get("input", content.get("arguments"))))
            return 0
        found = [content[field] for field in _PART_FIELDS if content.get(field) is not None]
        if found and (kind in _TEXT_PARTS or kind is None or isinstance(found[0], str | list)):
            return sum(_collect(part, texts, depth - 1) for part in found)
    return 1


def _collect_calls(message: dict[str, object], texts: list[str]) -> int:
    calls = message.get("tool_calls") or ([message["function_call"]] if message.get("function_call") else [])
    if not isinstance(calls, list):
        return 1
    left_out = 0
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts.append(_call_text(function.get("name"), function.get("arguments")))
        else:
            left_out += 1
    return left_out


def _call_text(name: object, arguments: object) -> str:
    shown = (
        arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    )
    return f"tool call {name}: {shown}" if isinstance(name, str) else f"tool call: {shown}"
