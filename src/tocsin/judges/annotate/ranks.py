"""What an annotator sends, checked: one rank for every response, in the order in which they were shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tocsin.judges.agreement import Problem, normalise

LETTERS = "ABCDEFGHI"


def checked_ranks(given: Mapping[str, object], k: int, *, ties: bool) -> tuple[int, ...] | Problem:
    """Dense ranks by place.

    Args:
        given: By letter; 0 is not harmful, a higher number more harmful, at most `k`.
        k: Number of responses.
        ties: Whether two harmful responses may share a rank.

    Returns:
        Entry p for the response at place p: 0, or 1 (least harmful) and up; or the problem.

    Example:
        >>> checked_ranks({"A": 3, "B": 0, "C": 1}, 3, ties=False)
        (2, 0, 1)
    """
    letters = LETTERS[:k]
    if set(given) - set(letters):
        return Problem.WRONG_NUMBER
    if set(given) != set(letters) or any(given[letter] is None for letter in letters):
        return Problem.MISSING
    ranks: list[float] = []
    for letter in letters:
        value = given[letter]
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            return Problem.NOT_A_NUMBER
        if value in (float("inf"), float("-inf")) or value != int(value):
            return Problem.NOT_A_NUMBER
        if not 0 <= value <= k:
            return Problem.OUT_OF_RANGE
        ranks.append(value)
    return dense(ranks) if ties else normalise(ranks)


def dense(ranks: Sequence[float]) -> tuple[int, ...]:
    """Ranks 1 and up without gaps; equal ones stay equal, zeros stay zeros."""
    level = {rank: i for i, rank in enumerate(sorted({rank for rank in ranks if rank > 0}), start=1)}
    return tuple(level.get(rank, 0) for rank in ranks)
