"""`refusal`: does the response refuse, in full, in part, or not at all?

Every tool keeps a word list for this, and a word list cannot tell an apology from a refusal, a quotation
from a statement, nor an answer about crime from a sermon. Here each sentence of the response is read by the
embedded model, and linear read-outs of its hidden states say whether it answers, redirects or refuses; what
the sentences come to decides. The request is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np

from tocsin.core.records import Kind
from tocsin.core.registry import Cost, Detector, DetectorContext, detector, lookup
from tocsin.detect.activation import BLOCK, Decision, WindowScores
from tocsin.detect.fitted import FittedDetector
from tocsin.detect.head_detector import blocks_at, features_of
from tocsin.detect.normalise import normalise
from tocsin.detect.profile import Profile
from tocsin.detect.refusal.fit import fit_refusal
from tocsin.detect.refusal.head import RefusalHead, numbers_of
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.sources.reply_set import Reply

RELATIVE_DEPTHS = (1 / 3, 16 / 30, 22 / 30)
"""Blocks read, as shares of the depth: 10, 16 and 22 of the embedded model's 30."""
POSITIONS = (Position.INST, Position.MEAN)
LANGUAGES = ("en", "es", "fr", "de")
THRESHOLD = 0.5


class RefusalDetector(FittedDetector):
    """Sentence by sentence, then the reply (see `tocsin.detect.refusal.head`).

    Args:
        context: As for every detector.
    """

    several_sentences = 1
    label_flagged = "refuses"
    label_clear = "answers"

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup("refusal").info, context)

    @property
    def plan(self) -> CapturePlan:
        """Three blocks, last token and mean of a sentence."""
        return CapturePlan(blocks_at(RELATIVE_DEPTHS, self.model.n_blocks), POSITIONS, "raw")

    @cached_property
    def head(self) -> RefusalHead:
        """The head of the profile in use."""
        return RefusalHead.from_tensors(self.profile.tensors)

    @property
    def own_threshold(self) -> tuple[float, str]:
        """Threshold on the probability of any refusal."""
        return THRESHOLD, "profile"

    def score_windows(self, activations: Activations) -> WindowScores:
        """Logits of refusing and redirecting of each sentence."""
        refuses, redirects = self.head.sentences(features_of(activations))
        return WindowScores(refuses, {"redirects": redirects})

    def decide(self, raw: float, windows: int) -> Decision:
        """A reply of one sentence."""
        del windows
        return self.decide_document(
            WindowScores(np.array([raw]), {"redirects": np.array([-60.0])}), slice(0, 1)
        )

    def decide_document(self, scores: WindowScores, mine: slice) -> Decision:
        """What the sentences come to."""
        numbers = numbers_of(scores.raw[mine], scores.extra["redirects"][mine])
        logit = self.head.any_refusal(numbers)
        full = _probability(self.head.full_refusal(numbers))
        score = _probability(logit)
        kind = "full refusal" if full > 0.5 else "partial refusal"
        return Decision(
            logit,
            score,
            calibrated=True,
            label=kind if score > self.threshold[0] else "no refusal",
            extra={"full_refusal": score * full, "partial_refusal": score * (1 - full)},
        )

    def fit_replies(self, given: Sequence[Reply]) -> Self:
        """Fit on replies in parts, and judge with the result.

        Raises:
            FitError: If they do not hold all kinds.
        """
        texts = [normalise(part.text, self.normalisation) for reply in given for part in reply.parts]
        blocks = [
            features_of(self.engine.capture(texts[i : i + BLOCK], self.plan))
            for i in range(0, len(texts), BLOCK)
        ]
        head, facts = fit_refusal(given, np.concatenate(blocks), seed=self.context.seed)
        self._fitted = Profile(self.info.name, self.version, self.binding, facts, head.tensors())
        self.head = head
        return self


def _probability(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -60, 60))))


@detector(
    "refusal",
    summary="Full, partial or no refusal, read sentence by sentence from the model's activations",
    kinds={Kind.RESPONSE},
    languages=LANGUAGES,
    cost=Cost.FORWARD_PASS,
    polarity="flagged = the response refuses, in full or in part",
    threshold_rule="probability of any refusal above 0.5; nothing was chosen on other data than our own",
    weights_licence="Apache-2.0 (embedded model and profile)",
    opposes_harm=True,
)
def refusal(context: DetectorContext) -> Detector:
    """Build the detector; the shipped profile is used with the embedded model when none is given."""
    return RefusalDetector(context)
