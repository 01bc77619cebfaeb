"""ROUGE-1, 2, L and Lsum with the numbers of `rouge_score`, in a fraction of its time.

The library tokenises both texts anew for every call and fills its tables cell by cell. Here tokens and
n-grams are kept with each text, and the rows of longest common subsequences are bits of a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from tocsin.judges.lexical.tokens import Prepared, Tokens

Variant = Literal["1", "2", "l", "lsum"]


class Overlap(NamedTuple):
    """Agreement of a response with a reference, each number from 0 to 1."""

    precision: float
    """Share of the response that the reference has."""
    recall: float
    """Share of the reference that the response has."""
    f: float
    """Their harmonic mean."""


@lru_cache(maxsize=8_192)
def rouge(variant: Variant, reference: Prepared, response: Prepared, *, stemmed: bool) -> Overlap:
    """One variant of ROUGE (Lin 2004).

    The last results are kept, since precision, recall and F of a pair are asked for one by one.

    Args:
        variant: `1` and `2` count n-grams, `l` is the longest common subsequence, `lsum` its union over
            lines.
        reference: What the response is compared with.
        response: The response.
        stemmed: Compare stems of words of more than three characters.
    """
    kind = "rouge_stemmed" if stemmed else "rouge"
    if variant in {"1", "2"}:
        wanted, given = reference.ngrams(kind, int(variant)), response.ngrams(kind, int(variant))
        return overlap((wanted & given).total(), given.total(), wanted.total())
    if variant == "l":
        a, b = (getattr(each, kind) for each in (reference, response))
        return overlap(common_length(a, b), len(b), len(a))
    lines = "lines_stemmed" if stemmed else "lines"
    return _summary(getattr(reference, lines), getattr(response, lines))


def overlap(shared: int, n_response: int, n_reference: int) -> Overlap:
    """Precision, recall and F from counts; 0 where there is nothing to share."""
    precision = shared / max(n_response, 1)
    recall = shared / max(n_reference, 1)
    total = precision + recall
    return Overlap(precision, recall, 2 * precision * recall / total if total > 0 else 0.0)


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bit-parallel rows (Hyyro 2004)."""
    return len(b) - _rows(a, b)[-1].bit_count()


def _rows(a: Sequence[str], b: Sequence[str]) -> list[int]:
    """For each beginning of `a` a number whose bit j is 0 where the common length grows with token j of `b`.

    So the common length of the first i and j tokens is j less the ones among the lowest j bits of row i.
    """
    places: dict[str, int] = {}
    for i, token in enumerate(b):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(b)) - 1
    row, rows = full, [full]
    for token in a:
        match = row & places.get(token, 0)
        if match:
            row = ((row + match) | (row - match)) & full
        rows.append(row)
    return rows


def _summary(reference: list[Tokens], response: list[Tokens]) -> Overlap:
    """Union over the response's lines for each line of the reference, each token counted once."""
    wanted, given = (Counter(token for line in side for token in line) for side in (reference, response))
    n_reference, n_response = wanted.total(), given.total()
    hits = 0
    for line in reference:
        found = sorted(set().union(*(_common_places(line, other) for other in response)))
        for token in (line[i] for i in found):
            if given[token] > 0 and wanted[token] > 0:
                hits += 1
                given[token] -= 1
                wanted[token] -= 1
    return overlap(hits, n_response, n_reference)


def _common_places(a: Tokens, b: Tokens) -> list[int]:
    """Places in `a` of one longest common subsequence, chosen as `rouge_score` does."""
    if not set(a) & set(b):
        return []
    rows = _rows(a, b)
    i, j, found = len(a), len(b), []
    while i > 0 and j > 0:
        if rows[i] == rows[0]:  # nothing in common any more
            break
        if a[i - 1] == b[j - 1]:
            found.append(i - 1)
            i -= 1
            j -= 1
        elif _common(rows[i], j - 1) > _common(rows[i - 1], j):
            j -= 1
        else:
            i -= 1
    return found


def _common(row: int, j: int) -> int:
    return j - (row & ((1 << j) - 1)).bit_count()
