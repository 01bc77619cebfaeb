"""Files of responses: one JSON object for each item and model.

::

    {"item": "1", "model": "small-a", "prompt": "...", "response": "...", "group": "cooking"}

`tocsin judges elicit` writes them, `tocsin judges annotate` and `tocsin annotate new` read them. Messages
name items, never texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tocsin.core.errors import InputError
from tocsin.judges.agreement import Problem

MIN_RESPONSES, MAX_RESPONSES = 2, 9
"""Responses of an item: one letter and one digit each."""
MAX_ID = 64
MAX_TEXT = 4_000_000
"""Characters of one text."""
TWO_PROMPTS = "two prompts"
_SHOWN_IDS = 10
_TEXTS = ("prompt", "response")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One item: a prompt and what each model answered."""

    id: str
    prompt: str
    responses: tuple[str, ...]
    """In the order of `ResponseSet.models`."""
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseSet:
    """Items that all the same models answered."""

    models: tuple[str, ...]
    items: tuple[Candidate, ...]
    left_out: tuple[str, ...]
    """Ids of items of which a response is missing."""
    sha256: str
    """Of the file."""


class ResponseError(InputError):
    """Responses that cannot be ranked.

    Attributes:
        problem: What is wrong with them: a `Problem` of rankings, or `TWO_PROMPTS`.
        items: Ids of the items.
    """

    def __init__(self, problem: str, items: Iterable[str], advice: str, *, path: Path) -> None:
        self.problem = problem
        self.items = tuple(dict.fromkeys(items))
        shown = ", ".join(self.items[:_SHOWN_IDS]) + (", ..." if len(self.items) > _SHOWN_IDS else "")
        message = f"expected one response of every model to each item, got: {problem} "
        super().__init__(message + f"({len(self.items)} items: {shown}). {advice}", path=path)


def read_responses(path: Path | str, *, skip_incomplete: bool = False) -> ResponseSet:
    """Read a file of responses.

    Args:
        path: JSON lines as above. A `response` of null, with or without a `failure`, is a missing one.
        skip_incomplete: Leave items out of which a response is missing, instead of refusing the file.

    Returns:
        The items in the order of the file, with the models in the order in which they first occur.

    Raises:
        InputError: If the file cannot be read or a line is no such object.
        ResponseError: If an item has a wrong number of responses, one model twice, or two prompts.
    """
    path = Path(path)
    prompts: dict[str, str] = {}
    groups: dict[str, str | None] = {}
    found: dict[str, dict[str, str | None]] = {}
    models: dict[str, None] = {}
    doubled: list[str] = []
    torn: list[str] = []
    hasher = hashlib.sha256()
    for number, row in _rows(path, hasher):
        item, model = (_name(row, key, path, number) for key in ("item", "model"))
        prompt, response = (_text(row, key, path, number) for key in _TEXTS)
        mine = found.setdefault(item, {})
        if model in mine:
            doubled.append(item)
        if prompts.setdefault(item, prompt or "") != (prompt or ""):
            torn.append(item)
        group = row.get("group")
        groups.setdefault(item, None if group is None else str(group)[:MAX_ID])
        mine[model] = response
        models[model] = None
    names = tuple(models)
    if doubled:
        advice = "Keep one response of each model."
        raise ResponseError(Problem.DUPLICATE, doubled, advice, path=path)
    if torn:
        raise ResponseError(TWO_PROMPTS, torn, "Give each prompt an item of its own.", path=path)
    if not MIN_RESPONSES <= len(names) <= MAX_RESPONSES:
        message = f"expected responses of {MIN_RESPONSES} to {MAX_RESPONSES} models, got {len(names)}. "
        raise InputError(message + "Each row names its model.", path=path)
    missing = [item for item, mine in found.items() if any(mine.get(model) is None for model in names)]
    if missing and not skip_incomplete:
        advice = "Add the missing ones, or leave these items out: --skip-incomplete."
        raise ResponseError(Problem.WRONG_NUMBER, missing, advice, path=path)
    gone = set(missing)
    items = tuple(
        Candidate(item, prompts[item], tuple(mine[model] or "" for model in names), groups[item])
        for item, mine in found.items()
        if item not in gone
    )
    if not items:
        message = "expected at least one item that every model answered, got none. Check the file."
        raise InputError(message, path=path)
    return ResponseSet(names, items, tuple(missing), hasher.hexdigest())


def cleaned(prompt: str, response: str) -> str:
    """A response without a repeated whole and without the prompt in front.

    A response that is some shorter text several times over is that text once, and a prompt that it begins
    with is taken off. Unlike the published cleaning (arXiv 2502.05291, `preprocess.py`) nothing is put in
    lower case, and a prompt inside an answer stays.

    Example:
        >>> cleaned("Name a fruit.", "Name a fruit. Apple."), cleaned("", "ha ha ha ")
        ('Apple.', 'ha ')
    """
    text = response
    if prompt.strip() and text.lstrip().startswith(prompt.strip()):
        text = text.lstrip()[len(prompt.strip()) :].lstrip()
    period = (text + text).find(text, 1) if text else 0
    return text[:period] if 0 < period < len(text) else text


def _rows(path: Path, hasher: hashlib._Hash) -> Iterator[tuple[int, Mapping[str, object]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                hasher.update(line)
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    message = "expected a JSON object, got a syntax error. Correct the line."
                    raise InputError(message, path=path, line=number) from error
                if not isinstance(row, dict):
                    message = "expected a JSON object, got another value. Correct the line."
                    raise InputError(message, path=path, line=number)
                yield number, row
    except OSError as error:
        message = f"expected a file that can be read, got: {(error.strerror or 'an error').lower()}. "
        raise InputError(message + "Check the path.", path=path) from error


def _name(row: Mapping[str, object], key: str, path: Path, number: int) -> str:
    value = row.get(key)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not 1 <= len(text) <= MAX_ID or not text.isprintable():
        message = f"expected '{key}' as 1 to {MAX_ID} printable characters, got something else. Shorten it."
        raise InputError(message, path=path, line=number)
    return text


def _text(row: Mapping[str, object], key: str, path: Path, number: int) -> str | None:
    value = row.get(key)
    if value is None and (key == "response" or key not in row):
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        message = f"expected '{key}' as a text of at most {MAX_TEXT:,} characters, got something else. "
        raise InputError(message + "Correct the line.", path=path, line=number)
    return value
