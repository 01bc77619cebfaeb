"""Pairs of prompts, their division, and the tokens of both runs of a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from tocsin.core.errors import InputError, ModelError
from tocsin.internals.layout import PromptLayout

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.internals.patching import Patcher

Construction = Literal["position_free", "aligned", "noise"]
"""How the counterfactual run is made (card 05, section 3.2): any harmless prompt, changed at its last places
only; a harmless prompt of as many tokens; the harmful prompt with noise on its content."""
Where = Literal["at", "content", "changed", "unchanged", "template"]
Part = Literal["discover", "select", "test"]
PARTS: tuple[Part, ...] = ("discover", "select", "test")
MIN_PAIRS = 10


class PromptPair(NamedTuple):
    """A harmful prompt and its harmless counterpart."""

    harmful: str
    harmless: str


class Tokens(NamedTuple):
    """Both runs of a pair. Places count from the end: -1 is the last token."""

    pair: PromptPair
    harmful: list[int]
    harmless: list[int]
    """Of the harmful prompt again where noise makes the counterfactual."""
    tail: int
    """Places at the end that may be changed."""
    places: dict[Where, tuple[int, ...]]
    part: Part
    number: int
    """Of the pair, from 0; seeds its noise."""
    own: list[int] | None
    """The harmless prompt itself, whatever makes the counterfactual; None where it equals the harmful one."""


class Prepared(NamedTuple):
    """Pairs that can be used."""

    tokens: list[Tokens]
    n_unequal: int
    """Left out, since their two prompts differ in length."""
    n_same: int
    """Left out, since their two prompts are equal."""
    n_repeated: int
    """Left out, since their harmful prompt came before."""


def divide(pairs: Sequence[PromptPair]) -> list[Part]:
    """Part of each pair: 60 % discover, 20 % select, 20 % test, by a hash of the harmful prompt."""
    order = sorted(
        range(len(pairs)),
        key=lambda i: hashlib.sha256(pairs[i].harmful.encode("utf-8", "surrogatepass")).hexdigest(),
    )
    parts: list[Part] = ["discover"] * len(pairs)
    for rank, i in enumerate(order):
        if rank >= round(0.8 * len(pairs)):
            parts[i] = "test"
        elif rank >= round(0.6 * len(pairs)):
            parts[i] = "select"
    return parts


def prepare(
    layout: PromptLayout,
    pairs: Sequence[PromptPair],
    construction: Construction,
    *,
    n_last: int,
    at: Literal["last", "content", "all"],
    most: int | None,
    context: int,
) -> Prepared:
    """Tokens of the pairs that the construction can use.

    Args:
        layout: Of the model.
        pairs: In any order.
        construction: How the counterfactual is made.
        n_last: Last places that are changed.
        at: Places that layers and modules are patched at.
        most: Use at most so many pairs, the first ones.
        context: Most tokens of a prompt.

    Raises:
        InputError: If fewer than `MIN_PAIRS` are left, or a prompt is longer than the context.
    """
    seen: set[str] = set()
    usable: list[tuple[PromptPair, list[int], list[int], list[int] | None, int, int]] = []
    n_unequal = n_same = n_repeated = 0
    for number, pair in enumerate(pairs, start=1):
        if most is not None and len(usable) == most:
            break
        if pair.harmful in seen:
            n_repeated += 1
            continue
        seen.add(pair.harmful)
        harmful = layout.build(pair.harmful)
        ids = [*harmful.prefix, *harmful.ids]
        built = layout.build(pair.harmless)
        own = other = [*built.prefix, *built.ids]
        if construction == "noise":
            other = ids
        else:
            if ids == other:
                n_same += 1
                continue
            if construction == "aligned" and len(ids) != len(other):
                n_unequal += 1
                continue
        longest = max(len(ids), len(other), len(own))
        if longest > context:
            message = f"pair {number} has a prompt of {longest} tokens; this model reads at most {context}."
            raise InputError(message + " Shorten it.")
        before = len(harmful.prefix)
        usable.append(
            (pair, ids, other, None if own == ids else own, before + harmful.first, before + harmful.inst)
        )
    if len(usable) < MIN_PAIRS:
        why = f"; {n_unequal} pairs differ in length, which this construction cannot use" if n_unequal else ""
        message = (
            f"expected at least {MIN_PAIRS} pairs of different prompts, got {len(usable)}{why}."
            " Give more pairs, or use the position-free construction."
        )
        raise InputError(message)
    parts = divide([each[0] for each in usable])
    tokens = [
        _places(*each, part=part, number=number, construction=construction, n_last=n_last, at=at)
        for number, (each, part) in enumerate(zip(usable, parts, strict=True))
    ]
    return Prepared(tokens, n_unequal, n_same, n_repeated)


def _places(
    pair: PromptPair,
    ids: list[int],
    other: list[int],
    own: list[int] | None,
    first: int,
    inst: int,
    *,
    part: Part,
    number: int,
    construction: Construction,
    n_last: int,
    at: Literal["last", "content", "all"],
) -> Tokens:
    size = len(ids)
    last = tuple(range(-min(n_last, len(ids), len(other)), 0))
    if construction == "position_free":
        return Tokens(pair, ids, other, len(last), {"at": last}, part, number, own)
    differ = [ids[i] != other[i] or (construction == "noise" and first <= i <= inst) for i in range(size)]
    # What lies before the first difference is the same in both runs, whatever is patched.
    start = min(differ.index(True), size - len(last))
    content = tuple(i - size for i in range(max(first, start), inst + 1))
    template = tuple(i - size for i in range(max(inst + 1, start), size))
    everything = tuple(range(start - size, 0))
    places: dict[Where, tuple[int, ...]] = {
        "at": {"last": last, "content": content, "all": everything}[at],
        "content": content,
        "changed": tuple(i for i in content if differ[i + size]),
        "unchanged": tuple(i for i in content if not differ[i + size]),
        "template": template,
    }
    return Tokens(pair, ids, other, size - start, places, part, number, own)


def noise_for(patcher: Patcher, tokens: Tokens, *, scale: float, seed: int) -> Tensor:
    """Gaussian noise for the content of a prompt, `scale` embeddings wide; shape (tail, width).

    Args:
        patcher: Of the model.
        tokens: Of the pair.
        scale: In standard deviations of all entries of the embedding matrix; 3 in arXiv 2202.05262.
        seed: Of this pair.
    """
    import torch

    weight = patcher.anatomy.embedding.weight
    if not isinstance(weight, torch.Tensor):
        message = "the model's embedding has no weight matrix, so noise cannot be scaled to it."
        raise ModelError(message)
    drawn = np.random.default_rng(seed).normal(size=(tokens.tail, weight.shape[1]))
    content = np.zeros((tokens.tail, 1))
    content[[tokens.tail + place for place in tokens.places["content"]]] = 1.0
    width = scale * float(weight.detach().float().std())
    return torch.from_numpy(drawn * content * width).to(weight)
