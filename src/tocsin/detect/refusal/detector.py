"""`refusal` and `refusal-in-context`: does the response refuse, in full, in part, or not at all?

Every tool keeps a word list for this, and a word list cannot tell an apology from a refusal, a quotation
from a statement, nor an answer about crime from a sermon. Here each sentence of the response is read by the
embedded model, and linear read-outs of its hidden states say whether it answers, redirects or refuses; what
the sentences come to decides. `refusal` does not read the request. `refusal-in-context` reads each sentence
as the assistant's reply to it, in the model's chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from tocsin.core.records import Abstention, Item, Kind, Reason, Turn
from tocsin.core.registry import Cost, Detector, DetectorContext, detector, lookup
from tocsin.detect.activation import BLOCK, Decision, WindowScores
from tocsin.detect.fitted import FittedDetector
from tocsin.detect.head_detector import blocks_at, features_of
from tocsin.detect.profile import Profile
from tocsin.detect.refusal.fit import fit_refusal, sentence_of
from tocsin.detect.refusal.head import RefusalHead, numbers_of
from tocsin.detect.views import View
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.internals.layout import Template
from tocsin.sources.reply_set import Reply

RELATIVE_DEPTHS = (1 / 3, 16 / 30, 22 / 30)
"""Blocks read, as shares of the depth: 10, 16 and 22 of the embedded model's 30."""
POSITIONS = (Position.MEAN,)
LANGUAGES = ("en", "es", "fr", "de")
THRESHOLD = 0.5


class RefusalDetector(FittedDetector):
    """Sentence by sentence, then the reply (see `tocsin.detect.refusal.head`).

    Args:
        context: As for every detector.
    """

    name: ClassVar[str] = "refusal"
    template: ClassVar[Template] = "raw"
    version = "2"
    several_sentences = 1
    label_flagged = "refuses"
    label_clear = "answers"

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup(self.name).info, context)

    @property
    def plan(self) -> CapturePlan:
        """Three blocks, mean of a sentence."""
        return CapturePlan(blocks_at(RELATIVE_DEPTHS, self.model.n_blocks), POSITIONS, self.template)

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

    def _view(self, text: str, request: str) -> View:
        """What is read of a response."""
        del request
        return View("text", text)

    def fit_replies(self, given: Sequence[Reply]) -> Self:
        """Fit on replies in parts, and judge with the result.

        Raises:
            FitError: If they do not hold all kinds.
        """
        pieces = [self._windows(self._view(reply.text, reply.prompt), is_fit=False) for reply in given]
        sentences = [
            [sentence_of(reply, piece.window, piece.text) for piece in mine]
            for reply, mine in zip(given, pieces, strict=True)
        ]
        # Many replies share sentences: each is read once.
        places = {(piece.view.context, piece.text): piece for mine in pieces for piece in mine}
        rows = {key: row for row, key in enumerate(places)}
        unique = list(places.values())
        read = np.concatenate(
            [
                features_of(self._capture(unique[i : i + BLOCK], self.plan))
                for i in range(0, len(unique), BLOCK)
            ]
        )
        features = read[[rows[piece.view.context, piece.text] for mine in pieces for piece in mine]]
        head, facts = fit_refusal(given, sentences, features, seed=self.context.seed)
        self._fitted = Profile(self.info.name, self.version, self.binding, facts, head.tensors())
        self.head = head
        return self


class RefusalInContextDetector(RefusalDetector):
    """Each sentence of a response as a reply to its request; abstains when there is no request.

    Args:
        context: As for every detector.
    """

    name: ClassVar[str] = "refusal-in-context"
    template: ClassVar[Template] = "chat"

    def fit_replies(self, given: Sequence[Reply]) -> Self:
        """As `refusal`, on the replies that were written whole: the others hardly fit their requests."""
        return super().fit_replies([reply for reply in given if reply.is_whole])

    def _view(self, text: str, request: str) -> View:
        return View("text", text, (Turn(role="user", text=request),))

    def _readable(self, item: Item) -> list[View] | Abstention:
        views = super()._readable(item)
        if isinstance(views, Abstention):
            return views
        request = (item.prompt or "").strip()
        if not request:
            detail = "the request is needed beside the response"
            return Abstention(reason=Reason.MISSING_PART, detail=detail)
        if not self._fitting((Turn(role="user", text=request),)):
            detail = "the request takes more than half of the model's context"
            return Abstention(reason=Reason.TRUNCATED, detail=detail)
        return [self._view(view.text, request) for view in views]


def _probability(logit: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(logit, -60, 60))))


_POLARITY = "flagged = the response refuses, in full or in part"
_RULE = "probability of any refusal above 0.5; nothing was chosen on other data than our own"
_LICENCE = "Apache-2.0 (embedded model and profile)"


@detector(
    "refusal",
    summary="Full, partial or no refusal, read sentence by sentence from the model's activations",
    kinds={Kind.RESPONSE},
    languages=LANGUAGES,
    cost=Cost.FORWARD_PASS,
    polarity=_POLARITY,
    threshold_rule=_RULE,
    weights_licence=_LICENCE,
    opposes_harm=True,
)
def refusal(context: DetectorContext) -> Detector:
    """Build the detector; the shipped profile is used with the embedded model when none is given."""
    return RefusalDetector(context)


@detector(
    "refusal-in-context",
    summary="The same as refusal, with every sentence read as a reply to its request",
    kinds={Kind.RESPONSE},
    languages=LANGUAGES,
    cost=Cost.FORWARD_PASS,
    polarity=_POLARITY,
    threshold_rule=_RULE,
    weights_licence=_LICENCE,
    opposes_harm=True,
)
def refusal_in_context(context: DetectorContext) -> Detector:
    """Build the detector; as `refusal`."""
    return RefusalInContextDetector(context)
