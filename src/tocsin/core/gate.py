"""Whether a text is one that a detector was made for: else it abstains with the reason.

Checked in this order: encoded blob, empty, script, mostly code, language. The rules lean towards judging: a
short English request must not be lost to a guess about its language.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from tocsin.core.records import Abstention, Reason

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MAX_CHARS_FOR_LANGUAGE = 2_000
"""The language of longer texts is told from their first characters."""
MAX_CHARS_OF_LINE = 300
"""A line is known as code from its first characters; whole lines of a hostile text could take minutes."""

_BLOB = re.compile(r"[A-Za-z0-9+/=_\-%\\]{40,}")
_HEX_PAIRS = re.compile(r"(?:(?:\\x|%|0x)?[0-9A-Fa-f]{2}[\s,:]?){16,}")
_BINARY = re.compile(r"(?:[01]{7,9}\s?){4,}")
# Lines that hardly occur outside programs, lines that are code when they stand among such, and comment lines.
_STRONG_LINE = re.compile(
    r"^\s*(?:"
    r"(?:async )?def \w+\(.*|class \w+.*[:{]|import [\w.*]+;?|from [\w.]+ import .*|#include\b.*"
    r"|(?:public|private|static|final)\b.*[;{(]|(?:const|let|var) \w+ ?=.*|function \w*\(.*"
    r"|return\b.*[;\])\w]|(?:if|for|while|elif|else if|switch)\b.*[:{)]|else ?[:{]|try ?[:{]|@\w+\(?.*"
    r")\s*$"
)
_CODE_LINE = re.compile(
    r"[{};]\s*$"
    r"|^\s*(?:[\w.\[\]'\", ]+ ?(?:[-+*/%|&]?=)(?!=) ?\S.*|[\w.]+\(.*\)|<[^>]*>.*|>>> .*|[\]})]+,?)\s*$"
)
_COMMENT_LINE = re.compile(r"^(?:#|//|/?\*)")
_LONG_QUOTE = re.compile(r"\"\"\"|'''")
# Small words that run through English text and are rare in other languages that share its letters.
_ENGLISH_WORDS = """
the a an of to and in is are was were i you my your me it this that for with how what which who why where when
can do does did should would could will be have has from on at by as not or if about write give create explain
make list someone people
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_SHARED_WITH_OTHERS = frozenset(
    ("a", "an", "in", "is", "i", "me", "do", "on", "as", "at", "or", "was", "will", "be", "for")
)
_WORD = re.compile(r"[^\W\d_]+")
_CONFIDENT = 0.60
_SURE = 0.95


def unread_stretches(text: str, languages: Collection[str] = ("en",)) -> list[tuple[int, int, Abstention]]:
    """Stretches of a long text that cannot be judged although the text as a whole can.

    The text is cut at white space into stretches of at most `MAX_CHARS_FOR_LANGUAGE` characters. A stretch
    in another
    language or script, or an encoded one, is named with its first and past-the-last character, so that
    nothing can
    hide behind an English beginning. Code inside a longer text is read like the rest.
    """
    if len(text) <= MAX_CHARS_FOR_LANGUAGE:
        return []
    found = []
    start = 0
    while start < len(text):
        end = min(start + MAX_CHARS_FOR_LANGUAGE, len(text))
        if end < len(text):
            space = text.rfind(" ", start + MAX_CHARS_FOR_LANGUAGE // 2, end)
            end = space + 1 if space >= 0 else end
        problem = assess(text[start:end], languages)
        if problem is not None and problem.reason in {Reason.LANGUAGE, Reason.ENCODED}:
            found.append((start, end, problem))
        start = end
    return found


def assess(text: str, languages: Collection[str] = ("en",)) -> Abstention | None:
    """Why a detector for these languages cannot judge the text, or None when it can.

    Args:
        text: The text to be judged.
        languages: ISO 639-1 codes; empty means any language.
    """
    encoded = _encoded_share(text)
    if encoded > 0.5:
        return Abstention(reason=Reason.ENCODED, detail=f"{encoded:.0%} of the characters look encoded")
    letters = sum(character.isalpha() for character in text)
    if letters == 0:
        detail = "no letters" if text.strip() else "no text"
        return Abstention(reason=Reason.EMPTY, detail=detail)
    if languages and not _script_fits(text, letters):
        return Abstention(reason=Reason.LANGUAGE, detail="not written in the Latin script")
    if _is_mostly_code(text):
        return Abstention(reason=Reason.CODE, detail="most lines look like program code")
    if languages:
        return _language(text, languages)
    return None


def _script_fits(text: str, letters: int) -> bool:
    # Every language a text detector of ours declares so far is written with Latin letters.
    latin = sum(character.isalpha() and (character < "ɐ" or "Ḁ" <= character <= "ỿ") for character in text)
    return latin >= 0.6 * letters


def _encoded_share(text: str) -> float:
    covered = 0
    for pattern in (_HEX_PAIRS, _BINARY, _BLOB):
        covered = max(covered, sum(_dense(match.group()) for match in pattern.finditer(text)))
    return covered / max(1, len(text.strip()))


def _dense(run: str) -> int:
    # A long word or path made of letters only is not a blob: encoded text mixes cases or digits.
    mixed = any(c.isdigit() for c in run) or (run != run.lower() and run != run.upper() and not run.istitle())
    return len(run) if mixed else 0


def _is_mostly_code(text: str) -> bool:
    # Leading white space must go first: the patterns would try every way to share it out.
    lines = [line.strip()[:MAX_CHARS_OF_LINE] for line in text.splitlines() if line.strip()]
    strong = sum(bool(_STRONG_LINE.match(line)) for line in lines)
    code = sum(bool(_STRONG_LINE.match(line) or _CODE_LINE.search(line)) for line in lines)
    comments = _count_comments(lines)
    if strong >= 2 or (strong >= 1 and 1 <= len(lines) <= 3):
        return code + comments > 0.5 * len(lines)
    if len(lines) >= 4:
        return code > 0.7 * len(lines)
    symbols = sum(character in "{}[]();=<>|&$#\\/*+_" for character in text)
    return len(text) >= 30 and symbols > 0.22 * len(text)


def _count_comments(lines: Sequence[str]) -> int:
    """Comment lines and lines of documentation strings that do not look like code themselves."""
    count, inside = 0, False
    for line in lines:
        quotes = len(_LONG_QUOTE.findall(line))
        is_comment = inside or quotes > 0 or bool(_COMMENT_LINE.match(line))
        count += is_comment and not (_STRONG_LINE.match(line) or _CODE_LINE.search(line))
        inside ^= quotes % 2 == 1
    return count


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    # The public functions of py3langid give log-odds; probabilities need an identifier of our own.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _language(text: str, languages: Collection[str]) -> Abstention | None:
    sample = text[:MAX_CHARS_FOR_LANGUAGE]
    words = [word.lower() for word in _WORD.findall(sample)]
    english = sum(word in _ENGLISH for word in words) / max(1, len(words))
    if "en" in languages and (english >= 0.34 or len(words) < 3):
        return None
    # Text in capitals or with odd spacing confuses the identifier; it was trained on running text.
    code, probability = _identifier().classify(" ".join(words) if sample.isupper() else sample)
    if code in languages:
        return None
    distinctive = sum(word in _ENGLISH - _SHARED_WITH_OTHERS for word in words) / max(1, len(words))
    needed = _SURE if "en" in languages and distinctive > 0.1 else _CONFIDENT
    if "en" in languages and distinctive > 0.2:
        return None
    if probability < needed and not (distinctive == 0 and len(words) >= 4):
        return None
    return Abstention(reason=Reason.LANGUAGE, detail=f"looks like '{code}' (probability {probability:.2f})")
