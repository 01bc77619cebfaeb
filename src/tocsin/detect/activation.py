"""What detectors that read activations share: reading items, windows, one capture, verdicts in order.

A subclass says which hidden states it wants (`plan`) and turns the captured values of a block of windows into
scores (`score_windows`). Everything else is the same for all of them, so that the same chunk of items gives
the same
windows and the forward pass is made once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.gate import assess, unread_stretches
from tocsin.core.records import Abstention, Evidence, Examined, Item, Kind, Provenance, Reason, Turn, Verdict
from tocsin.core.registry import DetectorContext, DetectorInfo
from tocsin.detect.normalise import ALL_STEPS, Step, normalise
from tocsin.detect.sentences import split_sentences
from tocsin.detect.views import View, earlier_turns, views_of
from tocsin.internals import Activations, CaptureEngine, CapturePlan, Window, capture_engine, split_windows
from tocsin.models.spec import load_activation_model

CHUNK = 256
"""Items that are held back for sorting and batching."""
BLOCK = 512
"""Windows whose activations are in memory at once."""
MAX_WINDOWS = 400
"""Windows read of one item: about 19,000 tokens in windows of 64."""
MAX_EVIDENCE = 5
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WindowScores:
    """Scores of a block of windows."""

    raw: Scores
    """Shape (windows,): the method's own unit, higher is more harmful."""
    extra: Mapping[str, Scores] = field(default_factory=dict)
    """Further numbers for each window, reported for the window that decided."""
    categories: Scores | None = None
    """Shape (windows, categories): share of each category, for detectors that name categories."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One window of one view."""

    view: View
    window: Window
    text: str


@dataclass(slots=True)
class _Prepared:
    """An item that was read, or why it could not be."""

    item: Item
    pieces: list[_Piece] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    problem: Abstention | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a document's window scores come to."""

    raw: float
    score: float
    calibrated: bool
    label: str | None = None
    """A word of its own; by default that of a flagged or another item."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further numbers of the document."""


class ActivationDetector(ABC):
    """Base of `harmfulness`, `latent-guard`, `biopsy` and `policy-embedded`."""

    info: DetectorInfo
    version = "1"
    normalisation: tuple[Step, ...] = ALL_STEPS
    window_tokens = 64
    """Longer texts are read in windows of at most this many tokens."""
    window_overlap = 16
    reads_sentences = True
    """Whether windows end with sentences and lines, rather than after a fixed number of tokens."""
    several_sentences = 3
    """Sentences from which a text is read one by one, however short it is."""
    label_flagged = "harmful"
    label_clear = "not flagged"

    def __init__(self, info: DetectorInfo, context: DetectorContext) -> None:
        self.info = info
        self.context = context
        self.model = load_activation_model(context.model, context)
        self.engine: CaptureEngine = capture_engine(self.model, context)

    @property
    @abstractmethod
    def plan(self) -> CapturePlan:
        """Rows and positions this detector reads."""

    @abstractmethod
    def score_windows(self, activations: Activations) -> WindowScores:
        """Scores of captured windows."""

    @abstractmethod
    def decide(self, raw: float, windows: int) -> Decision:
        """Document score from its highest window score and the number of windows."""

    def decide_document(self, scores: WindowScores, mine: slice) -> Decision:
        """Document score from the scores of all its windows; by default from the highest."""
        raw = scores.raw[mine]
        return self.decide(float(raw.max()), len(raw))

    @property
    @abstractmethod
    def threshold(self) -> tuple[float, str]:
        """Threshold on the scale of `score`, and where it comes from."""

    @property
    def profile_hash(self) -> str | None:
        """Hash of the fitted profile, where there is one."""
        return None

    def category_names(self) -> Sequence[str]:
        """Taxonomy ids of the columns of `WindowScores.categories`."""
        return ()

    def not_assessed(self) -> Sequence[str]:
        """Taxonomy ids that are reported as not assessed."""
        return ()

    @property
    def binding(self) -> dict[str, JsonValue]:
        """What a profile of this detector is bound to."""
        plan = self.plan
        return {
            "model": self.model.id,
            "revision": self.model.revision,
            "template": plan.template,
            "template_hash": self.model.template_hash if plan.template == "chat" else "",
            "rows": list(plan.rows),
            "positions": [position.value for position in plan.positions],
            "normalisation": list(self.normalisation),
        }

    @property
    def provenance(self) -> Provenance:
        """How this detector's verdicts come about."""
        threshold, source = self.threshold
        return Provenance(
            detector_version=self.version,
            model=f"{self.model.id}@{self.model.revision}",
            profile=self.profile_hash,
            template_hash=self.model.template_hash,
            normalisation=self.normalisation,
            threshold=threshold,
            threshold_source=source,
            seed=self.context.seed,
            settings={
                "rows": list(self.plan.rows),
                "positions": [position.value for position in self.plan.positions],
                "template": self.plan.template,
                "window_tokens": self.window_tokens,
                "window_overlap": self.window_overlap,
                "reads_sentences": self.reads_sentences,
                "several_sentences": self.several_sentences,
                "deep": self.context.deep,
            },
        )

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Everything beside the item that decides a verdict."""
        return {"detector": self.info.name, **self.provenance.model_dump(mode="json")}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order; at most `CHUNK` items are held back."""
        self.engine.register(self.plan)
        provenance = self.provenance
        stream = iter(items)
        while chunk := list(islice(stream, CHUNK)):
            prepared = [self._prepare(item) for item in chunk]
            yield from self._judge(prepared, provenance)

    def capture_items(self, items: Sequence[Item], plan: CapturePlan) -> tuple[list[int], Activations]:
        """Activations of items that are one window long, for fitting: kept indices and values.

        Items that the gate refuses, or that are longer than one window, are left out.
        """
        kept: list[int] = []
        pieces: list[_Piece] = []
        for index, item in enumerate(items):
            prepared = self._prepare(item, is_fit=True)
            if prepared.problem is None and len(prepared.pieces) == 1:
                kept.append(index)
                pieces += prepared.pieces
        blocks = [self._capture(block, plan).values for block in _blocks(pieces)]
        width = (len(plan.rows), len(plan.positions), self.model.width)
        values = np.concatenate(blocks) if blocks else np.empty((0, *width), dtype=np.float32)
        return kept, Activations(plan, values)

    def _prepare(self, item: Item, *, is_fit: bool = False) -> _Prepared:
        ready = _Prepared(item)
        views = self._readable(item)
        if isinstance(views, Abstention):
            ready.problem = views
            return ready
        refused: list[tuple[View, Abstention]] = []
        for view in views:
            problem = assess(view.text, self.info.languages)
            if problem is not None:
                refused.append((view, problem))
                continue
            unread = unread_stretches(view.text, self.info.languages)
            pieces = [
                piece
                for piece in self._windows(replace(view, context=self._fitting(view.context)), is_fit=is_fit)
                if not any(start <= piece.window.start < end for start, end, _ in unread)
            ]
            if unread and not pieces:
                refused.append((view, unread[0][2]))
                continue
            ready.parts.append(view.part)
            ready.pieces += pieces
            ready.left_out += [
                f"{view.part} {start}-{end}: {problem.reason.value} ({problem.detail})"
                for start, end, problem in unread
            ]
        if not ready.pieces:
            # "No text" is the least telling reason, so any other goes first.
            reasons = sorted((problem for _, problem in refused), key=lambda x: x.reason is Reason.EMPTY)
            ready.problem = reasons[0] if reasons else Abstention(reason=Reason.EMPTY, detail="no text")
        for view, problem in refused:
            if problem.reason is not Reason.EMPTY:
                ready.left_out.append(f"{view.part}: {problem.reason.value} ({problem.detail})")
        if len(ready.pieces) > MAX_WINDOWS:
            ready.left_out.append(f"{len(ready.pieces) - MAX_WINDOWS} windows after the first {MAX_WINDOWS}")
            del ready.pieces[MAX_WINDOWS:]
        ready.left_out += item.partial
        return ready

    def _readable(self, item: Item) -> list[View] | Abstention:
        """The texts to read of an item, or why there are none."""
        if item.problem is not None:
            return item.problem
        if item.kind not in self.info.kinds:
            detail = f"{self.info.name} does not judge items of kind {item.kind.value}"
            return Abstention(reason=Reason.UNSUPPORTED_KIND, detail=detail)
        return views_of(item, deep=self.context.deep)

    def _fitting(self, context: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """The latest turns that leave half of the model's context to template and window."""
        room = self.model.context // 2
        # A byte-level tokenizer needs at most four tokens for a character; most chats need not be counted.
        while context and 4 * sum(len(turn.text) for turn in context) > room:
            if sum(len(self.model.encode_untrusted(turn.text).ids) for turn in context) <= room:
                break
            context = context[2:]  # the oldest pair, so that the user still speaks first
        return context

    def _windows(self, view: View, *, is_fit: bool) -> list[_Piece]:
        # A token is rarely longer than a word: short texts need no tokenizer to be known as one window.
        if len(view.text) <= self.window_tokens:
            windows = [Window(0, len(view.text))]
        else:
            offsets = self.model.encode_untrusted(view.text).offsets
            split = split_sentences if self.reads_sentences else split_windows
            windows = split(view.text, offsets, self.window_tokens, self.window_overlap)
            # Two sentences are mostly one request; among more, a request is diluted by its neighbours. A fit
            # has one label for all of them.
            if len(offsets) <= self.window_tokens and (is_fit or len(windows) < self.several_sentences):
                windows = [Window(0, len(view.text))]
        pieces = []
        for window in windows:
            text = normalise(view.text[window.start : window.end], self.normalisation)
            if any(character.isalnum() for character in text):
                pieces.append(_Piece(view, window, text))
        return pieces

    def _judge(self, prepared: list[_Prepared], provenance: Provenance) -> Iterator[Verdict]:
        pieces = [piece for ready in prepared if ready.problem is None for piece in ready.pieces]
        plan = self.plan
        scores = _join([self.score_windows(self._capture(block, plan)) for block in _blocks(pieces)])
        at = 0
        for ready in prepared:
            if ready.problem is not None:
                problem = ready.problem
                yield Verdict.abstain(ready.item, self.info.name, provenance, problem.reason, problem.detail)
                continue
            mine = slice(at, at + len(ready.pieces))
            at += len(ready.pieces)
            if not np.isfinite(scores.raw[mine]).all():
                detail = "the model's activations are not finite numbers"
                yield Verdict.abstain(ready.item, self.info.name, provenance, Reason.UNREADABLE, detail)
                continue
            yield self._verdict(ready, scores, mine, provenance)

    def _capture(self, pieces: Sequence[_Piece], plan: CapturePlan) -> Activations:
        texts = [piece.text for piece in pieces]
        return self.engine.capture(texts, plan, contexts=[piece.view.context for piece in pieces])

    def _verdict(
        self, ready: _Prepared, scores: WindowScores, mine: slice, provenance: Provenance
    ) -> Verdict:
        raw = scores.raw[mine]
        best = int(np.argmax(raw))
        decision = self.decide_document(scores, mine)
        threshold, _ = self.threshold
        flagged = decision.score > threshold
        shares = None if scores.categories is None else scores.categories[mine][best]
        names = self.category_names()
        categories: dict[str, float | None] = {}
        if shares is not None:
            categories = {
                name: round(decision.score * float(share), 6)
                for name, share in zip(names, shares, strict=True)
            }
            categories |= dict.fromkeys(self.not_assessed())
        top = np.argsort(-raw, kind="stable")[:MAX_EVIDENCE]
        evidence = [
            Evidence(
                part=ready.pieces[i].view.part,
                start=ready.pieces[i].window.start,
                end=ready.pieces[i].window.end,
                score=float(raw[i]),
            )
            for i in top
            if i == best or raw[i] >= raw[best] - 1.0
        ]
        extra: dict[str, JsonValue] = {
            name: float(values[mine][best]) for name, values in scores.extra.items()
        }
        extra |= dict(decision.extra)
        if ready.item.kind is Kind.CHAT:
            context = ready.pieces[best].view.context
            extra["context_turns"] = len(context)
            extra["context_turns_not_read"] = earlier_turns(ready.item) - len(context)
        return Verdict(
            key=ready.item.key,
            detector=self.info.name,
            flagged=flagged,
            label=decision.label or (self.label_flagged if flagged else self.label_clear),
            score=decision.score,
            calibrated=decision.calibrated,
            raw_score=decision.raw,
            category=names[int(np.argmax(shares))] if shares is not None else None,
            categories=categories,
            evidence=tuple(evidence),
            examined=Examined(parts=tuple(ready.parts), windows=len(raw), left_out=tuple(ready.left_out)),
            extra=extra,
            provenance=provenance,
        )


def _blocks(pieces: Sequence[_Piece]) -> Iterator[Sequence[_Piece]]:
    return (pieces[at : at + BLOCK] for at in range(0, len(pieces), BLOCK))


def _join(blocks: Sequence[WindowScores]) -> WindowScores:
    if not blocks:
        return WindowScores(np.empty(0))
    shares = [block.categories for block in blocks if block.categories is not None]
    return WindowScores(
        np.concatenate([block.raw for block in blocks]),
        {name: np.concatenate([block.extra[name] for block in blocks]) for name in blocks[0].extra},
        np.concatenate(shares) if shares else None,
    )
