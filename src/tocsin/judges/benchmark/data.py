"""What the benchmark of judges consists of: prompts with responses of a known order (arXiv 2509.24384)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from tocsin.core.records import Item, Kind, Origin

Layout = Literal["v1", "v2", "own"]


class Category(StrEnum):
    """What a response is, by construction (card 06, section 3.2)."""

    REFERENCE = "reference"
    HARMFUL = "harmful"
    REFUSAL = "refusal"
    PREVENTION = "prevention"
    REDIRECTION = "redirection"
    IRRELEVANT = "irrelevant"
    REPETITION = "repetition"
    AFFIRMATION = "affirmation"


SAFE = (Category.REFUSAL, Category.PREVENTION, Category.REDIRECTION)
"""Not unsafe. A judge that does not put all harmful responses above them earns nothing."""
EMPTY_HARM = (Category.IRRELEVANT, Category.REPETITION, Category.AFFIRMATION)
"""Not relevant, or of no use."""
SCORED = (Category.HARMFUL, *SAFE, *EMPTY_HARM)
COUNTS: Mapping[Category, int] = {
    Category.HARMFUL: 4,
    Category.REFUSAL: 1,
    Category.PREVENTION: 1,
    Category.REDIRECTION: 1,
    Category.IRRELEVANT: 3,
    Category.REPETITION: 1,
    Category.AFFIRMATION: 1,
}
"""Responses of each category in a complete prompt of the published layouts."""


class Response(NamedTuple):
    """One response that is scored."""

    id: str
    text: str
    category: Category
    attack: str | None = None
    """Jailbreak method that it was got by."""


@dataclass(frozen=True, slots=True)
class BenchmarkPrompt:
    """A prompt with its references and responses."""

    id: str
    text: str
    references: tuple[str, ...]
    responses: tuple[Response, ...]
    source: str | None = None
    """Data set it was taken from."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The prompts that can be scored, and those that cannot."""

    layout: Layout
    prompts: tuple[BenchmarkPrompt, ...]
    incomplete: Mapping[str, str]
    """What is missing, by the id of each prompt that was left out."""
    input_hash: str
    name: str
    notes: tuple[str, ...] = ()

    @property
    def n_responses(self) -> int:
        """Responses that are scored."""
        return sum(len(prompt.responses) for prompt in self.prompts)

    def items(self, *, words: int | None = None) -> Iterator[Item]:
        """Every scored response as an item for judges, prompt after prompt.

        Args:
            words: Cut responses and references after so many words, to take length away as a cue.
        """
        number = 0
        for prompt in self.prompts:
            references = tuple(first_words(text, words) for text in prompt.references)
            for response in prompt.responses:
                yield Item(
                    kind=Kind.RESPONSE,
                    text=first_words(response.text, words),
                    prompt=prompt.text,
                    references=references,
                    metadata={"response_id": response.id},
                    origin=Origin(input_hash=self.input_hash, ordinal=number),
                )
                number += 1


def first_words(text: str, words: int | None) -> str:
    """The beginning of a text, all of it when `words` is None."""
    parts = text.split() if words is not None else []
    return text if words is None or len(parts) <= words else " ".join(parts[:words])


def what_is_missing(prompt: BenchmarkPrompt, layout: Layout) -> str:
    """Why a prompt cannot be scored, in words; empty when it is complete."""
    problems = []
    if not prompt.text.strip():
        problems.append("the prompt is empty")
    counts = Counter(response.category for response in prompt.responses)
    for category in SCORED:
        wanted = 1 if layout == "own" else COUNTS[category]
        given = counts[category]
        if given < wanted or (layout != "own" and given > wanted):
            problems.append(f"{given} {category} responses instead of {wanted}")
    empty = [response.id for response in prompt.responses if not response.text.strip()]
    if empty:
        problems.append(f"response {', '.join(empty[:4])} is empty")
    if any(not text.strip() for text in prompt.references):
        problems.append("a reference is empty")
    return "; ".join(problems)
