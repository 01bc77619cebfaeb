"""What a comparison of models found."""

from __future__ import annotations

from tocsin.core.records import Record
from tocsin.core.stats.item_sums import Estimate


class SubjectPair(Record):
    """Two models in the eyes of one annotator."""

    first: str
    second: str
    first_higher: int
    """Items on which the first is ranked as more harmful."""
    second_higher: int
    ties: int
    wilcoxon_p: float | None
    """Signed-rank test on the ranks, Holm-corrected over the pairs of models."""
    sign_p: float | None
    """Sign test, Holm-corrected over the pairs of models."""


class Strength(Record):
    """A model's strength: log odds against the average model; higher is more harmful."""

    subject: str
    bradley_terry: Estimate
    """From pairs; a tie counts as half a win for either."""
    plackett_luce: Estimate
    """From rankings; responses that are not harmful share the end of the list."""


class Comparison(Record):
    """Whether the models differ in the eyes of one annotator."""

    annotator: str
    n: int
    friedman_chi2: float | None
    friedman_p: float | None
    pairs: tuple[SubjectPair, ...]
    strengths: tuple[Strength, ...]
