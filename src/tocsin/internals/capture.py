"""Hidden states at chosen blocks and positions, for many texts, from one forward pass.

Several detectors may ask for activations of the same texts. Each registers its plan first; the pass is then
made once for the union of the plans of one template and stops at the last block any of them needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tocsin.core.records import Turn
from tocsin.core.registry import DetectorContext
from tocsin.internals.layout import Position, PromptLayout, PromptTokens, Template
from tocsin.models.base import ActivationModel, Array


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """What to keep of a forward pass."""

    rows: tuple[int, ...]
    """Rows of hidden states: 0 is the embedding, b the output of block b."""
    positions: tuple[Position, ...]
    template: Template = "chat"


@dataclass(frozen=True, slots=True)
class Activations:
    """Captured hidden states."""

    plan: CapturePlan
    values: Array
    """Shape (texts, rows, positions, width), float32."""

    def at(self, row: int, position: Position) -> Array:
        """Shape (texts, width)."""
        return self.values[:, self.plan.rows.index(row), self.plan.positions.index(position)]

    def select(self, plan: CapturePlan) -> Activations:
        """The part of these activations that a smaller plan asks for."""
        rows = [self.plan.rows.index(row) for row in plan.rows]
        positions = [self.plan.positions.index(position) for position in plan.positions]
        return Activations(plan, self.values[:, rows][:, :, positions])


class CaptureEngine:
    """Captures activations of one model; shared by all detectors of a run."""

    def __init__(self, model: ActivationModel) -> None:
        self.model = model
        self._plans: dict[Template, CapturePlan] = {}
        self._layouts: dict[Template, PromptLayout] = {}
        self._last: dict[Template, tuple[str, Activations]] = {}

    def layout(self, template: Template = "chat") -> PromptLayout:
        """The prompt layout for a template, made once."""
        if template not in self._layouts:
            self._layouts[template] = PromptLayout(self.model, template)
        return self._layouts[template]

    def register(self, plan: CapturePlan) -> None:
        """Announce what will be asked for, so that one pass can serve every detector."""
        known = self._plans.get(plan.template)
        rows, positions = set(plan.rows), set(plan.positions)
        if known is not None:
            rows |= set(known.rows)
            positions |= set(known.positions)
        ordered = tuple(position for position in Position if position in positions)
        self._plans[plan.template] = CapturePlan(tuple(sorted(rows)), ordered, plan.template)

    def capture(
        self, texts: Sequence[str], plan: CapturePlan, *, contexts: Sequence[Sequence[Turn]] | None = None
    ) -> Activations:
        """Activations of a bounded chunk of texts.

        Args:
            texts: None empty or blank, each with its template at most as long as the model's context.
            plan: Rows and positions to return.
            contexts: Earlier turns for each text, for chats.

        Returns:
            float32 values of shape (texts, rows, positions, width). Memory grows with the chunk: keep it to
            about a thousand texts.
        """
        if contexts is not None and len(contexts) != len(texts):
            message = (
                f"expected one context for each text, got {len(contexts)} contexts and {len(texts)} texts."
            )
            raise ValueError(message)
        self.register(plan)
        union = self._plans[plan.template]
        key = _fingerprint(texts, contexts)
        last = self._last.get(plan.template)
        if last is None or last[0] != key or not _covers(last[1].plan, plan):
            last = self._last[plan.template] = key, self._run(texts, union, contexts)
        return last[1].select(plan)

    def _run(
        self, texts: Sequence[str], plan: CapturePlan, contexts: Sequence[Sequence[Turn]] | None
    ) -> Activations:
        layout = self.layout(plan.template)
        with_tail = not {Position.POST, Position.TAIL}.isdisjoint(plan.positions)
        # Equal prompts are computed once, so that equal rows get equal scores to the last bit.
        places: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        prompts: dict[tuple[int, ...], list[PromptTokens]] = {}
        for index, text in enumerate(texts):
            tokens = layout.build(text, context=contexts[index] if contexts else (), with_tail=with_tail)
            same = places.setdefault((tokens.prefix, tuple(tokens.ids)), [])
            if not same:
                prompts.setdefault(tokens.prefix, []).append(tokens)
            same.append(index)
        shape = (len(texts), len(plan.rows), len(plan.positions), self.model.width)
        values = np.empty(shape, dtype=np.float32)
        for prefix, members in prompts.items():
            for batch in self.model.hidden([tokens.ids for tokens in members], plan.rows, prefix=prefix):
                for place, member in enumerate(batch.indices):
                    tokens = members[member]
                    values[places[prefix, tuple(tokens.ids)]] = _pick(
                        batch.states[place], tokens, plan.positions
                    )
        return Activations(plan, values)


def _pick(states: Array, tokens: PromptTokens, positions: Sequence[Position]) -> Array:
    """States of one text, shape (rows, tokens, width), at the positions: shape (rows, positions, width)."""
    taken = []
    for position in positions:
        if position is Position.INST:
            taken.append(states[:, tokens.inst])
        elif position is Position.POST:
            taken.append(states[:, len(tokens.ids) - 1])
        elif position is Position.MEAN:
            taken.append(states[:, tokens.first : tokens.inst + 1].mean(axis=1))
        else:
            tail = slice(min(tokens.inst + 1, len(tokens.ids) - 1), len(tokens.ids))
            taken.append(states[:, tail].mean(axis=1))
    return np.stack(taken, axis=1)


def _covers(have: CapturePlan, want: CapturePlan) -> bool:
    return (
        have.template == want.template
        and set(want.rows) <= set(have.rows)
        and set(want.positions) <= set(have.positions)
    )


def _fingerprint(texts: Sequence[str], contexts: Sequence[Sequence[Turn]] | None) -> str:
    digest = hashlib.sha256()

    def add(part: str) -> None:
        # The length goes first, so that no text can pass for several.
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)

    for index, text in enumerate(texts):
        context = contexts[index] if contexts else ()
        add(str(len(context)))
        for turn in context:
            add(turn.role)
            add(turn.text)
        add(text)
    return digest.hexdigest()


def capture_engine(model: ActivationModel, context: DetectorContext) -> CaptureEngine:
    """The run's capture engine for a model, made at first use."""
    key = f"capture:{model.id}:{model.revision}"
    if key not in context.shared:
        context.shared[key] = CaptureEngine(model)
    engine = context.shared[key]
    if not isinstance(engine, CaptureEngine):  # pragma: no cover - the key is ours
        raise TypeError(key)
    return engine
