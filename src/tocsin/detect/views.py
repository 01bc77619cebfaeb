"""What a text detector reads of an item.

One rule for every detector: in a chat the last user turn is examined and earlier turns are its context; in a
fine-tuning sample every turn is examined, since all of it is trained on; of a skill the declared purpose
(name,
description, headers), and with `deep` the body too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.core.records import Abstention, Item, Kind, Reason, Turn

TEXT_KINDS = frozenset({Kind.PROMPT, Kind.RESPONSE, Kind.CHAT, Kind.TRAINING_SAMPLE, Kind.MESSAGE})
MAX_CONTEXT_TURNS = 4
MAX_CONTEXT_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class View:
    """One text to examine."""

    part: str
    """Name used in `Evidence.part` and `Examined.parts`."""
    text: str
    context: tuple[Turn, ...] = ()
    """Earlier turns of a chat, from user to assistant, at most `MAX_CONTEXT_TURNS`."""


def views_of(item: Item, *, deep: bool = False) -> list[View] | Abstention:
    """The texts to examine, or why there are none."""
    if item.kind is Kind.SKILL:
        return _skill_views(item, deep=deep)
    if item.kind is Kind.CHAT:
        return _chat_view(item.turns)
    if item.kind is Kind.TRAINING_SAMPLE:
        return _sample_views(item)
    if item.kind in TEXT_KINDS:
        return [View("text", item.text)]
    return Abstention(
        reason=Reason.UNSUPPORTED_KIND, detail=f"a text detector cannot read a {item.kind.value}"
    )


def earlier_turns(item: Item) -> int:
    """Turns with text before the one of a chat that is examined."""
    last = _last_request(item.turns)
    return 0 if last is None else sum(bool(turn.text.strip()) for turn in item.turns[:last])


def _last_request(turns: Sequence[Turn]) -> int | None:
    return next((index for index in range(len(turns) - 1, -1, -1) if turns[index].role == "user"), None)


def _skill_views(item: Item, *, deep: bool) -> list[View] | Abstention:
    if item.skill is None:
        return Abstention(reason=Reason.MISSING_PART, detail="the item has no skill")
    views = [View("skill.purpose", item.skill.purpose)]
    if deep and item.skill.body.strip():
        views.append(View("skill.body", item.skill.body))
    return views


def _chat_view(turns: Sequence[Turn]) -> list[View] | Abstention:
    last = _last_request(turns)
    if last is None:
        return Abstention(reason=Reason.MISSING_PART, detail="the chat has no user turn")
    context: list[Turn] = []
    room = MAX_CONTEXT_CHARS
    # Chat templates want user and assistant in turn, starting with the user; other roles are no context of a
    # request.
    for turn in reversed(turns[:last]):
        if turn.role not in ("user", "assistant") or not turn.text.strip():
            continue
        if len(context) == MAX_CONTEXT_TURNS or len(turn.text) > room:
            break
        expected = "assistant" if not context or context[-1].role == "user" else "user"
        if turn.role != expected:
            break
        context.append(turn)
        room -= len(turn.text)
    if context and context[-1].role == "assistant":
        context.pop()
    return [View(f"turn[{last}]", turns[last].text, tuple(reversed(context)))]


def _sample_views(item: Item) -> list[View] | Abstention:
    if item.turns:
        views = [
            View(f"turn[{index}]", turn.text) for index, turn in enumerate(item.turns) if turn.text.strip()
        ]
    else:
        both = (("prompt", item.prompt or ""), ("text", item.text))
        views = [View(part, text) for part, text in both if text.strip()]
    return views or Abstention(reason=Reason.EMPTY, detail="no turn holds text")
