"""`harmfulness`: does the model believe the request is harmful? A linear head on a few hidden states.

Card 03 (Zhao et al., "LLMs Encode Harmfulness and Refusal Separately", arXiv 2507.11878) reads harmfulness
at the end
of the instruction, apart from refusal at the end of the prompt. The published read-out, two centres and a
cosine over
all layers, is `latent-guard`. This detector is the default: a regularised linear head over chosen blocks and
positions, fitted on matched pairs with final punctuation, case and white space evened out, because those
marks alone
separate the published test sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from tocsin.core.errors import FitError
from tocsin.core.records import Item
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.detect.activation import WindowScores
from tocsin.detect.head_detector import HeadDetector, blocks_at, features_of
from tocsin.detect.linear_head import fit_head
from tocsin.detect.views import TEXT_KINDS
from tocsin.internals import Activations, CapturePlan, Position

RELATIVE_DEPTHS = (1 / 3, 16 / 30)
"""Blocks read, as shares of the depth: 10 and 16 of the embedded model's 30."""
POSITIONS = (Position.MEAN, Position.TAIL)


@detector(
    "harmfulness",
    summary="Linear read-out of the model's belief that a request is harmful",
    kinds=TEXT_KINDS,
    languages=("en",),
    cost=Cost.FORWARD_PASS,
    polarity="flagged = the text asks for something harmful",
    threshold_rule=(
        "best balanced accuracy on matched pairs with at most 5 % of plain instructions flagged "
        "(cross-fitted)"
    ),
    card="03 (arXiv 2507.11878)",
    weights_licence="Apache-2.0 (embedded model and profile)",
    fits_on=("harmless", "harmful"),
)
def harmfulness(context: DetectorContext) -> Harmfulness:
    """Build the detector; the shipped profile is used with the embedded model when none is given."""
    return Harmfulness(context)


class Harmfulness(HeadDetector):
    """Linear head on hidden states of a few blocks (implements `Fittable`)."""

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup("harmfulness").info, context)

    @property
    def plan(self) -> CapturePlan:
        """Two blocks, mean of the instruction and mean of the template's tail."""
        return CapturePlan(blocks_at(RELATIVE_DEPTHS, self.model.n_blocks), POSITIONS)

    def score_windows(self, activations: Activations) -> WindowScores:
        """Logits of the head."""
        return WindowScores(self.head.logits(features_of(activations)))

    def fit(self, harmless: Sequence[Item], harmful: Sequence[Item] | None = None) -> Self:
        """Fit on items of both classes; twins that share `metadata["pair"]` stay in one fold.

        Raises:
            FitError: If a class is missing or too small.
        """
        if not harmful:
            message = (
                "harmfulness needs harmful items too: pass --harmful FILE, or use the one-class detector "
                "`biopsy`."
            )
            raise FitError(message)
        items = [*harmful, *harmless]
        kept, activations = self.capture_items(items, self.plan)
        labels = np.array([index < len(harmful) for index in kept], dtype=bool)
        groups = [str(items[index].metadata.get("pair", f"row {index}")) for index in kept]
        plain = np.array([bool(items[index].metadata.get("plain", False)) for index in kept], dtype=bool)
        report = fit_head(features_of(activations), labels, groups, plain, seed=self.context.seed)
        facts = self.facts_of(items, labels, report) | {"n_plain": int(plain.sum())}
        return self.use(report.head, facts, {})
