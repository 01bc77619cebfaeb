"""Training data: one JSON object a line.

::

    {"id": "7", "prompt": "...", "response": "...", "label": "Yes", "topic": "bread", "references": ["..."]}
    {"id": "8", "prompt": "...", "response": "...", "votes": [1, 1, 0], "topic": "tyres"}
    {"id": "9", "prompt": "...", "response": "...", "soft_label": 0.85, "split": "test"}

* `prompt`, `response`: what was asked and answered.
* `label`: whether the response is harmful: Yes or No, in small letters too, true or false, 1 or 0.
* `votes`: one such label of each person.
* `soft_label`: from 0 to 1, in place of one that is derived.
* `references`: known harmful answers to the same prompt (or one `reference`), to derive it from.
* `topic`: items that share it are never split between training and test; without it, equal prompts.
* `split`: `train` or `test`; without it, whole topics are drawn for the test.
* `id`: for messages; the line's number without it.

Each item needs a label, votes or a soft label. Messages name lines and ids, never texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tocsin.core.errors import InputError, MissingExtraError
from tocsin.judges.classifier.soft_labels import overlap_of, soft_of_overlap, soft_of_votes
from tocsin.judges.lexical.tokens import TextCache

MAX_BYTES = 1 << 30
_WORDS = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}
Source = Literal["soft_label", "votes", "references", "label"]


def _as_label(value: object) -> object:
    """Yes and No as people write them."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower(), value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1):
        return bool(value)
    return value


Label = Annotated[bool, BeforeValidator(_as_label), Field(strict=True)]


class _Row(BaseModel):
    """One line of the file; further columns are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    prompt: str = Field(min_length=1)
    response: str = Field(min_length=1)
    label: Label | None = None
    votes: list[Label] | None = Field(default=None, min_length=1)
    soft_label: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    references: list[str] | None = None
    reference: str | None = None
    topic: str | int | None = None
    split: Literal["train", "test"] | None = None
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class LabelledResponse:
    """One item to learn from or to test on."""

    id: str
    prompt: str
    response: str
    is_yes: bool
    """Its class."""
    soft: float
    """What is learned, from 0 to 1."""
    source: Source
    """Where the soft label comes from."""
    topic: str
    split: Literal["train", "test"] | None = None

    @property
    def contradicts(self) -> bool:
        """The soft label leans to the other class: which of the two is right is not known."""
        return self.soft != 0.5 and (self.soft > 0.5) != self.is_yes


class LabelledData(NamedTuple):
    """A file of labelled responses."""

    items: list[LabelledResponse]
    sha256: str
    """Of the file."""


def read_labelled(path: Path | str) -> LabelledData:
    """Read a file of labelled responses.

    Raises:
        InputError: If it cannot be read, a line is no such object, an item has no label, its label is in
            doubt (a tie of votes, a soft label of 0.5), or an id is doubled.
        MissingExtraError: If soft labels come from references and the extra `judges` is not installed.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            message = f"expected a file of at most {MAX_BYTES >> 20} MiB, got a larger one. Train on a part."
            raise InputError(message, path=path)
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        message = f"expected a file of labelled responses, got: {(error.strerror or 'an error').lower()}. "
        raise InputError(message + "Check the path.", path=path) from error
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 text, got other bytes at byte {error.start}. Convert the file."
        raise InputError(message, path=path) from error
    texts = TextCache()
    found: dict[str, LabelledResponse] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        item = _item(_row(path, number, line), path, number, texts)
        if item.id in found:
            message = f"expected ids to differ, got '{item.id}' again. Give each response one of its own."
            raise InputError(message, path=path, line=number)
        found[item.id] = item
    if not found:
        message = "expected labelled responses, one JSON object a line, got none."
        raise InputError(message, path=path)
    return LabelledData(list(found.values()), hashlib.sha256(content).hexdigest())


def _row(path: Path, number: int, line: str) -> _Row:
    try:
        return _Row.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, str)) or "the line"
        what = "the column is missing" if first["type"] == "missing" else first["msg"]
        message = f"expected an object with prompt, response and a label; {where}: {what}. Mend or remove it."
        raise InputError(message, path=path, line=number) from error
    except (ValueError, RecursionError) as error:
        message = "expected a JSON object, got something else. Mend or remove the line."
        raise InputError(message, path=path, line=number) from error


def _item(row: _Row, path: Path, number: int, texts: TextCache) -> LabelledResponse:
    name = str(number) if row.id is None else str(row.id)
    references = [*(row.references or []), *([row.reference] if row.reference else [])]
    references = [text for text in references if text.strip()]
    soft, source = _soft(row, references, texts)
    if soft is None or source is None:
        message = f"expected a label, votes or a soft_label of '{name}', got none. Add one."
        raise InputError(message, path=path, line=number)
    is_yes = _class(row, soft)
    if is_yes is None:
        message = f"expected a Yes or No of '{name}', got a tie. Give it a label, or leave it out."
        raise InputError(message, path=path, line=number)
    topic = f"prompt {hashlib.sha256(row.prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    return LabelledResponse(
        id=name,
        prompt=row.prompt,
        response=row.response,
        is_yes=is_yes,
        soft=soft,
        source=source,
        topic=topic if row.topic is None else str(row.topic),
        split=row.split,
    )


def _soft(row: _Row, references: list[str], texts: TextCache) -> tuple[float | None, Source | None]:
    """What is learned: given, agreed by all, of the overlap with a reference, of the votes, of the label."""
    if row.soft_label is not None:
        return row.soft_label, "soft_label"
    if row.votes is not None and len(row.votes) > 1 and len(set(row.votes)) == 1:
        return float(row.votes[0]), "votes"
    if references:
        if find_spec("nltk") is None:
            raise MissingExtraError(extra="judges", purpose="deriving soft labels from references")
        return soft_of_overlap(overlap_of(row.response, references, texts)), "references"
    if row.votes is not None:
        return soft_of_votes(row.votes), "votes"
    if row.label is not None:
        return float(row.label), "label"
    return None, None


def _class(row: _Row, soft: float) -> bool | None:
    if row.label is not None:
        return row.label
    share = soft if row.votes is None else soft_of_votes(row.votes)
    return None if share == 0.5 else share > 0.5


def split_items(
    items: Sequence[LabelledResponse], share: float, seed: int
) -> tuple[list[LabelledResponse], list[LabelledResponse]]:
    """Items to train on and to test on; no topic stands on both sides.

    Args:
        items: In any order.
        share: About which part of the items is held out, where their `split` does not say it.
        seed: Of the draw of topics.

    Raises:
        InputError: If some items say their split and others do not, or a topic is on both sides.
    """
    given = [item for item in items if item.split is not None]
    if given and len(given) != len(items):
        message = f"expected a split of all {len(items)} items or of none, got {len(given)}."
        raise InputError(message)
    if given:
        train = [item for item in items if item.split == "train"]
        test = [item for item in items if item.split == "test"]
        both = {item.topic for item in train} & {item.topic for item in test}
        if both:
            message = f"expected topics on one side of the split, got {len(both)} on both. Move their items."
            raise InputError(message)
        return train, test
    topics = sorted({item.topic for item in items})
    order = np.random.default_rng(seed).permutation(len(topics))
    held: set[str] = set()
    n_held, wanted = 0, share * len(items)
    sizes = {topic: sum(item.topic == topic for item in items) for topic in topics}
    for index in order:
        if n_held >= wanted or len(held) == len(topics) - 1:
            break
        held.add(topics[index])
        n_held += sizes[topics[index]]
    return [item for item in items if item.topic not in held], [item for item in items if item.topic in held]
