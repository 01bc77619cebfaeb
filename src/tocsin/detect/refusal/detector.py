"""`refusal`: does the response refuse, in full, in part, or not at all?

Every tool keeps a word list for this, and a word list cannot tell an apology from a refusal, a quotation
from a statement, nor an answer about crime from a sermon. Here each sentence of the response is read by the
embedded model, and linear read-outs of its hidden states say whether it answers, redirects or refuses; what
the sentences come to decides. The request is not read, unless `refusal-in-context` is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np

from tocsin.core.records import Abstention, Item, Kind, Turn
from tocsin.core.registry import Cost, Detector, DetectorContext, Factory, detector, lookup
from tocsin.detect.activation import Decision, WindowScores
from tocsin.detect.fitted import FittedDetector
from tocsin.detect.head_detector import blocks_at, features_of
from tocsin.detect.normalise import normalise
from tocsin.detect.profile import Profile
from tocsin.detect.refusal.fit import fit_refusal
from tocsin.detect.refusal.head import RefusalHead, numbers_of
from tocsin.detect.views import View
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.internals.layout import Template
from tocsin.sources.reply_set import Reply

RELATIVE_DEPTHS = (1 / 3, 16 / 30, 22 / 30)
"""Blocks read, as shares of the depth: 10, 16 and 22 of the embedded model's 30."""
POSITIONS = (Position.INST, Position.MEAN)
LANGUAGES = ("en", "es", "fr", "de")
THRESHOLD = 0.5


class RefusalDetector(FittedDetector):
    """Sentence by sentence, then the reply (see `tocsin.detect.refusal.head`).

    Args:
        name: `refusal` or `refusal-in-context`.
        context: As for every detector.
    """

    several_sentences = 1
    label_flagged = "refuses"
    label_clear = "answers"

    def __init__(self, name: str, context: DetectorContext) -> None:
        super().__init__(lookup(name).info, context)
        self._reads_request = name == "refusal-in-context"

    @property
    def plan(self) -> CapturePlan:
        """Three blocks, last token and mean of a sentence."""
        template: Template = "continued" if self._reads_request else "raw"
        return CapturePlan(blocks_at(RELATIVE_DEPTHS, self.model.n_blocks), POSITIONS, template)

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
        texts, contexts = [], []
        for reply in given:
            request = (Turn(role="user", text=reply.prompt),) if self._reads_request else ()
            for part in reply.parts:
                texts.append(normalise(part.text, self.normalisation))
                contexts.append(request)
        blocks = [
            features_of(self.engine.capture(texts[i : i + 512], self.plan, contexts=contexts[i : i + 512]))
            for i in range(0, len(texts), 512)
        ]
        head, facts = fit_refusal(given, np.concatenate(blocks), seed=self.context.seed)
        self._fitted = Profile(self.info.name, self.version, self.binding, facts, head.tensors())
        self.head = head
        return self

    def _readable(self, item: Item) -> list[View] | Abstention:
        views = super()._readable(item)
        if isinstance(views, Abstention) or not self._reads_request or not item.prompt:
            return views
        request = Turn(role="user", text=item.prompt)
        return [replace(view, context=(request,)) for view in views]


def _probability(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -60, 60))))


def _factory(name: str) -> Factory:
    def build(context: DetectorContext) -> Detector:
        return RefusalDetector(name, context)

    return build


_SUMMARY = "Full, partial or no refusal, read sentence by sentence from the model's activations"
for _name, _more in (("refusal", ""), ("refusal-in-context", ", with the request before it")):
    detector(
        _name,
        summary=_SUMMARY + _more,
        kinds={Kind.RESPONSE},
        languages=LANGUAGES,
        cost=Cost.FORWARD_PASS,
        polarity="flagged = the response refuses, in full or in part",
        threshold_rule="probability of any refusal above 0.5; nothing was chosen on other data than our own",
        weights_licence="Apache-2.0 (embedded model and profile)",
        opposes_harm=True,
    )(_factory(_name))
