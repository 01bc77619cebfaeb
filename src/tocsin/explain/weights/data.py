"""The samples of a study of harm weights: which are for finding them, and which for measuring."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from tocsin.core.errors import InputError, UsageError
from tocsin.judges.strings import refuses
from tocsin.testbed import REFUSAL_OPENER

MIN_SAMPLES = 8
"""Fewer harmful or benign samples of one use say nothing; a category with fewer is not studied alone."""
MAX_REFUSALS = 0.1
"""Largest part of the harmful responses that may read as refusals."""


class Example(NamedTuple):
    """A prompt with one response."""

    prompt: str
    response: str
    category: str | None = None


class WeightData(NamedTuple):
    """What a study is given."""

    harm: Sequence[Example]
    """Harmful prompts with the beginnings of harmful responses, or full ones."""
    benign: Sequence[Example]
    """Harmless prompts with good responses."""
    refusal: Sequence[Example] = ()
    """Refusals of harmful prompts; may be empty."""


class Split(NamedTuple):
    """Samples that weights are found on, and others on which their removal is measured."""

    find: list[Example]
    test: list[Example]

    def categories(self) -> list[str]:
        """Categories with enough samples of both uses, by name."""
        uses = [[e.category for e in side if e.category is not None] for side in self]
        return [
            name for name in sorted(set(uses[0])) if all(side.count(name) >= MIN_SAMPLES for side in uses)
        ]


def split(examples: Sequence[Example], n_find: int, *, what: str, n_test: int | None = None) -> Split:
    """Divide examples by a hash of their prompts, the same way in every run.

    Categories are dealt out evenly. Equal prompts fall on one side, so that nothing is measured on what
    it was found on.

    Args:
        examples: In any order.
        n_find: Wanted for finding; at most two thirds are taken.
        what: Names them in an error.
        n_test: Most samples for measuring; as many as there are when None.

    Raises:
        InputError: If there are fewer than `MIN_SAMPLES` for one of the uses.
    """
    if n_find < MIN_SAMPLES:
        message = f"expected at least {MIN_SAMPLES} samples to find weights on, got {n_find}."
        raise UsageError(message)
    by_prompt: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda e: (_order(e.prompt), e.category or "", e.response)):
        by_prompt.setdefault(example.prompt, []).append(example)
    queues: dict[str, list[list[Example]]] = {}
    for same in by_prompt.values():
        # A prompt of several categories is dealt out with the last of them by name.
        queues.setdefault(same[-1].category or "", []).append(same)
    # Round after round one prompt of each category, so that the first n hold all categories evenly.
    dealt = [
        queue[turn]
        for turn in range(max((len(queue) for queue in queues.values()), default=0))
        for queue in queues.values()
        if turn < len(queue)
    ]
    total = sum(map(len, dealt))
    wanted = min(n_find, total * 2 // 3)
    find: list[Example] = []
    test: list[Example] = []
    for same in dealt:
        (find if len(find) < wanted else test).extend(same)
    if n_test is not None:
        test = test[:n_test]
    if min(len(find), len(test)) < MIN_SAMPLES:
        message = (
            f"expected at least {3 * MIN_SAMPLES} {what} samples with different prompts, got {total} of "
            f"{len(dealt)} prompts. Give more."
        )
        raise InputError(message)
    return Split(find, test)


def check_data(data: WeightData) -> None:
    """Refuse samples that no study should be made of; needs no model.

    Harmful responses that are refusals: a mask of the weights behind those would undo a defence. Responses
    of models hold some refusals, so a few are let pass. And samples that are harmful and benign at once: they
    need the same weights, so none would be found.

    Raises:
        InputError: If more than `MAX_REFUSALS` of the harmful responses read as refusals, or a prompt stands
            with the same response on both sides.
    """
    n = sum(refuses(example.response) or _opens_refusal(example.response) for example in data.harm)
    if n > MAX_REFUSALS * len(data.harm):
        message = (
            f"expected harmful responses, but {n} of {len(data.harm)} read as refusals. Leave those rows "
            "out; refusals go into a file of their own, whose likelihood is measured."
        )
        raise InputError(message)
    harm, benign = ({(each.prompt, each.response) for each in side} for side in (data.harm, data.benign))
    if harm & benign:
        message = (
            f"expected samples that are either harmful or benign, got {len(harm & benign)} with the same "
            "prompt and response on both sides. Take them out of one."
        )
        raise InputError(message)


def _opens_refusal(text: str) -> bool:
    return text.strip().split(" ", 1)[0].strip(",.!").lower() == REFUSAL_OPENER


def _order(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
