"""In which order responses are shown: counterbalanced, so that place and model can be told apart.

The published study shows every item in one order, which makes the two one (arXiv 2502.05291). Here each
block of items holds every order once (up to four responses) or every model once at every place (more), and
which item gets which is drawn from a seed.
"""

from __future__ import annotations

import hashlib
from itertools import permutations
from random import Random

_MOST_FOR_ALL = 4
"""Responses of which all orders make a block: 24. A block of five would hold 120."""


def balanced_orders(n_items: int, k: int, *, seed: int, who: str) -> list[tuple[int, ...]]:
    """Orders for one annotator.

    Args:
        n_items: Number of items.
        k: Responses of each.
        seed: Of the whole study.
        who: The annotator; another one has other orders.

    Returns:
        One order an item: entry p is the index of the response shown at place p. Over any whole block every
        response is equally often at every place.
    """
    random = seeded(seed, who, "orders")
    found: list[tuple[int, ...]] = []
    while len(found) < n_items:
        block = _block(k, random)
        random.shuffle(block)
        found += block
    return found[:n_items]


def all_orders(k: int) -> int:
    """How many different orders there are for one item before they repeat."""
    return len(list(permutations(range(k)))) if k <= _MOST_FOR_ALL else k


def rotations(order: tuple[int, ...], n: int, *, seed: int, item: str) -> list[tuple[int, ...]]:
    """`n` different orders of one item, `order` first.

    Args:
        order: The first.
        n: At most `all_orders(len(order))`.
        seed: Of the study.
        item: Another item has other further orders.
    """
    k = len(order)
    if k <= _MOST_FOR_ALL:
        others = [each for each in permutations(range(k)) if each != order]
        seeded(seed, item, "rotations").shuffle(others)
    else:
        others = [tuple(order[(place + step) % k] for place in range(k)) for step in range(1, k)]
    return [order, *others[: n - 1]]


def seeded(seed: int, *words: str) -> Random:
    """A generator for one purpose; equal on every machine and version of Python."""
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode("utf-8", "surrogatepass")).digest()
    return Random(digest)  # noqa: S311 - no secret is made with it


def _block(k: int, random: Random) -> list[tuple[int, ...]]:
    if k <= _MOST_FOR_ALL:
        return list(permutations(range(k)))
    first = list(range(k))
    random.shuffle(first)
    return [tuple(first[(place + step) % k] for place in range(k)) for step in range(k)]
