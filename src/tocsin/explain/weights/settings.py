"""What decides the result of a study of harm weights."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.core.errors import UsageError
from tocsin.explain.weights.attribution import AbsOrder
from tocsin.explain.weights.selection import Scope
from tocsin.internals.layout import Template


@dataclass(frozen=True, slots=True)
class WeightSettings:
    """Shares, samples and texts; the published values where there are any."""

    q: float = 1e-5
    """Share of weights taken from the harmful ranking (card 12, section 3.3)."""
    p: float = 5e-5
    """Share of weights that benign responses need, which stay."""
    scope: Scope = "matrix"
    abs_order: AbsOrder = "per_sample"
    template: Template = "raw"
    """`raw` as published; `chat` for the model's chat template."""
    given: int = 0
    """First tokens of harmful responses that are given, as by prefilling, when weights are looked for. An
    aligned model spends its resistance on them, and what writes the rest is found only past them."""
    n_find: int = 128
    """Samples of each side that weights are found on."""
    n_test: int = 64
    """Most samples of each side that their removal is measured on."""
    seed: int = 0
    test_refusal_mask: bool = False
    """Also find the weights that refuse and remove them for a while. For the testbed only: the mask exists
    inside the study and is never kept."""
    refusal_q: float = 0.03
    """Share of weights of that mask: refusing takes many more than writing (arXiv 2402.05162)."""
    refusal_p: float = 0.2
    """Share of weights that benign responses need, which stay in that mask."""

    def __post_init__(self) -> None:
        if not 0 < self.q <= 0.05 or not 0 <= self.p <= 1:
            message = f"expected q above 0 and at most 0.05 and p from 0 to 1, got q={self.q} and p={self.p}."
            raise UsageError(message)
