"""Readers of what guards write. A reader never guesses: anything but the trained form is a typed failure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from tocsin.core.records import Abstention, Reason
from tocsin.judges.guards.guard import Reading
from tocsin.judges.prompted.reading import failed, first_word

_CONFIDENCE = re.compile(r"<confidence>\s*(high|low)\s*</confidence>", re.IGNORECASE)
_SCORE = re.compile(r"<score>(.*?)</score>", re.IGNORECASE | re.DOTALL)
_THOUGHT = re.compile(r"<think>.*?</think>", re.IGNORECASE | re.DOTALL)
WILDGUARD_LINES = {
    "harmful request": "request_harmful",
    "response refusal": "refusal",
    "harmful response": "response_harmful",
}
"""Lines of a reply of WildGuard, and our names of them."""


def _unread(detail: str) -> Abstention:
    return Abstention(reason=Reason.UNPARSED, detail=detail)


def codes_of(line: str, known: Collection[str]) -> tuple[str, ...] | Abstention:
    """Codes of a line such as `S1,S10`, as often and in the order as they stand there."""
    found = tuple(part.strip().upper() for part in line.split(","))
    if not all(re.fullmatch(r"[A-Z]\d{1,2}", code) for code in found):
        return _unread("the line of categories is no list of codes")
    unknown = [code for code in found if code not in known]
    if unknown:
        return _unread("the reply names a category that this generation of the guard does not have")
    return tuple(dict.fromkeys(found))


def llama_guard(text: str, known: Collection[str]) -> Reading | Abstention:
    """`safe`, or `unsafe` and a line of codes.

    Args:
        text: The reply.
        known: Codes of the guard's generation. Codes mean other categories in other generations.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if not lines or lines[0].lower() not in {"safe", "unsafe"}:
        return failed(text)
    if lines[0].lower() == "safe":
        return Reading(is_unsafe=False) if len(lines) == 1 else _unread("a safe verdict goes on")
    if len(lines) != 2:
        return _unread("an unsafe verdict must be followed by one line of categories")
    codes = codes_of(lines[1], known)
    return codes if isinstance(codes, Abstention) else Reading(is_unsafe=True, codes=codes)


def wildguard(text: str) -> Reading | Abstention:
    """Three lines: `Harmful request`, `Response refusal`, `Harmful response`, each yes or no."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    found: dict[str, bool] = {}
    for line, wanted in zip(lines, WILDGUARD_LINES, strict=False):
        name, colon, answer = line.partition(":")
        if not colon or name.strip().lower() != wanted or answer.strip().lower() not in {"yes", "no"}:
            return failed(text)
        found[WILDGUARD_LINES[wanted]] = answer.strip().lower() == "yes"
    if len(lines) != len(WILDGUARD_LINES):
        return failed(text)
    return Reading(is_unsafe=found["response_harmful"], parts=dict(found))


def yes_or_no(text: str) -> Reading | Abstention:
    """A reply that begins with Yes or No (ShieldGemma, HarmBench)."""
    word = first_word(text, ("yes", "no"))
    return word if isinstance(word, Abstention) else Reading(is_unsafe=word == "yes")


def granite_word(text: str) -> Reading | Abstention:
    """Yes or No, and since version 3.2 `<confidence> High </confidence>` or Low."""
    levels = {level.lower() for level in _CONFIDENCE.findall(text)}
    word = _CONFIDENCE.sub("", text).strip().lower()
    if word not in {"yes", "no"} or len(levels) > 1:
        return failed(text)
    return Reading(is_unsafe=word == "yes", parts={"confidence": min(levels)} if levels else {})


def granite_score(text: str) -> Reading | Abstention:
    """`<score> yes </score>` or no, after what was thought (versions 3.3 and 4.1)."""
    said = _THOUGHT.sub("", text)
    scores: Sequence[str] = [score.strip().lower() for score in _SCORE.findall(said)]
    if len(scores) != 1 or scores[0] not in {"yes", "no"} or _SCORE.sub("", said).strip():
        return failed(text)
    return Reading(is_unsafe=scores[0] == "yes")
