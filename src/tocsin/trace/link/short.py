"""Near-duplicates among texts under 60 characters, where one edit breaks a shingle threshold.

Two short texts are linked when they are one insertion, deletion or replacement apart. One edit leaves either
the first or the last half of a text as it was, so that pairs are found by sorting those halves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

MIN_EDITED = 16
"""Below this many characters one edit often changes the meaning: only equal texts link."""
_MAX_BUCKET = 200


def within_one_edit(left: str, right: str) -> bool:
    """Whether the edit distance of two texts is at most 1."""
    if abs(len(left) - len(right)) > 1:
        return False
    short = min(len(left), len(right))
    start = next((place for place in range(short) if left[place] != right[place]), short)
    return left[start + 1 :] == right[start + 1 :] or (
        left[start:] == right[start + 1 :] or left[start + 1 :] == right[start:]
    )


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def short_pairs(texts: Mapping[int, str]) -> list[tuple[int, int]]:
    """Pairs of text numbers one edit apart that have the same digits in the same order.

    A bucket of over 200 texts is compared only within windows of that many, so that a common opening does
    not cost the square of the log.
    """
    buckets: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, text in texts.items():
        if len(text) < MIN_EDITED:
            continue
        # The partner may be one shorter: its half is that of `len - 1`.
        for half in {len(text) // 2, (len(text) - 1) // 2}:
            buckets["<", text[:half]].append(number)
            buckets[">", text[-half:]].append(number)
    found: set[tuple[int, int]] = set()
    for members in buckets.values():
        for place, one in enumerate(members):
            for two in members[place + 1 : place + _MAX_BUCKET]:
                pair = (min(one, two), max(one, two))
                if pair in found or one == two:
                    continue
                left, right = texts[one], texts[two]
                if within_one_edit(left, right) and _digits(left) == _digits(right):
                    found.add(pair)
    return sorted(found)
