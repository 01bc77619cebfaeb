"""From the risks of several passes to one verdict (arXiv 2604.15415, section 3).

For pass k of n and category c, the model gives a risk s_k(c) in [0, 1], 0 where it leaves c out::

    risk(c)  = (1/n) sum_k s_k(c)
    overall  = max_c risk(c)
    harmful  = overall > threshold         (strict; the paper's threshold is 0.60)
    violated = {c : risk(c) > threshold}   tier = tier of the category with the largest risk

Risks are fractions, not floats: three passes of 0.6 have the mean 0.6, not 0.6000000000000001 or
0.5999999999999999, so the strict threshold means what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

Risks = Mapping[str, Fraction]


class Outcome(NamedTuple):
    """The verdict in numbers."""

    risks: dict[str, Fraction]
    """For every category, in the order of the table."""
    overall: Fraction
    strongest: str | None
    """First category in the table with the largest risk; None when all risks are 0."""
    violated: tuple[str, ...]
    """Categories above the threshold, in the order of the table."""

    @property
    def is_harmful(self) -> bool:
        """True when any category is above the threshold."""
        return bool(self.violated)


def mean_over_passes(passes: Sequence[Risks], categories: Sequence[str]) -> dict[str, Fraction]:
    """Mean risk of each category; a category that a pass leaves out counts 0 there. At least one pass."""
    return {
        c: sum((risks.get(c, Fraction(0)) for risks in passes), Fraction(0)) / len(passes) for c in categories
    }


def max_over_windows(windows: Sequence[Risks], categories: Sequence[str]) -> dict[str, Fraction]:
    """Largest risk of each category over the windows of one item. At least one window."""
    return {c: max(risks[c] for risks in windows) for c in categories}


def judge(risks: Mapping[str, Fraction], threshold: Fraction) -> Outcome:
    """Apply the threshold. `risks` is not empty and in the order of the table."""
    overall = max(risks.values())
    strongest = next(c for c, risk in risks.items() if risk == overall) if overall > 0 else None
    violated = tuple(c for c, risk in risks.items() if risk > threshold)
    return Outcome(dict(risks), overall, strongest, violated)
