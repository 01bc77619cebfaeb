"""Hidden states at chosen blocks and positions, for many texts, from one forward pass.

Several detectors may ask for activations of the same texts. Each registers its plan first; the pass is then made
once for the union of the plans of one template and stops at the last block any of them needs.
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
        self._last: tuple[str, Activations] | None = None

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
            texts: Not empty and not blank, each at most the model's context.
            plan: Rows and positions to return.
            contexts: Earlier turns for each text, for chats.

        Returns:
            float32 values of shape (texts, rows, positions, width). Memory grows with the chunk: keep it to about
            a thousand texts.
        """
        self.register(plan)
        union = self._plans[plan.template]
        key = _fingerprint(texts, contexts, plan.template)
        if self._last is not None and self._last[0] == key and _covers(self._last[1].plan, plan):
            return self._last[1].select(plan)
        activations = self._run(texts, union, contexts)
        self._last = (key, activations)
        return activations.select(plan)

    def _run(self, texts: Sequence[str], plan: CapturePlan, contexts: Sequence[Sequence[Turn]] | None) -> Activations:
        layout = self.layout(plan.template)
        with_tail = Position.POST in plan.positions
        tokens = [
            layout.build(text, context=contexts[index] if contexts else (), with_tail=with_tail)
            for index, text in enumerate(texts)
        ]
        values = np.empty((len(texts), len(plan.rows), len(plan.positions), self.model.width), dtype=np.float32)
        for prefix in dict.fromkeys(token.prefix for token in tokens):
            members = [index for index, token in enumerate(tokens) if token.prefix == prefix]
            for batch in self.model.hidden([tokens[index].ids for index in members], plan.rows, prefix=prefix):
                for place, member in enumerate(batch.indices):
                    index = members[member]
                    values[index] = _pick(batch.states[place], tokens[index], plan.positions)
        return Activations(plan, values)


def _pick(states: Array, tokens: PromptTokens, positions: Sequence[Position]) -> Array:
    """States of one text, shape (rows, tokens, width), at the positions: shape (rows, positions, width)."""
    taken = []
    for position in positions:
        if position is Position.INST:
            taken.append(states[:, tokens.inst])
        elif position is Position.POST:
            taken.append(states[:, len(tokens.ids) - 1])
        else:
            taken.append(states[:, tokens.first : tokens.inst + 1].mean(axis=1))
    return np.stack(taken, axis=1)


def _covers(have: CapturePlan, want: CapturePlan) -> bool:
    return have.template == want.template and set(want.rows) <= set(have.rows) and set(want.positions) <= set(have.positions)


def _fingerprint(texts: Sequence[str], contexts: Sequence[Sequence[Turn]] | None, template: str) -> str:
    digest = hashlib.sha256(template.encode())
    for index, text in enumerate(texts):
        digest.update(b"\x00" + text.encode("utf-8", "surrogatepass"))
        for turn in contexts[index] if contexts else ():
            digest.update(b"\x01" + turn.role.encode() + b"\x02" + turn.text.encode("utf-8", "surrogatepass"))
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
