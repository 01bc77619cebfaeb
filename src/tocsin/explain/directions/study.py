"""Harmfulness and refusal as two directions: where they are, and what happens when they are added.

Card 03 (arXiv 2507.11878). Prompts fall into four buckets by label and by behaviour; centres are taken on one
part of the prompts and everything is measured on another. Where the model refuses fewer than `MIN_BUCKET`
of the harmful prompts, there is no refusal direction, and everything that needs one is left out and said so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.confounds import confound_audit
from tocsin.core.errors import InputError, ModelError, UsageError
from tocsin.core.stages import Stages
from tocsin.core.stats.item_sums import Estimate
from tocsin.core.stats.ranking import auroc_interval
from tocsin.explain.directions.geometry import (
    Floats,
    as_estimate,
    centre,
    cosine,
    mean_estimate,
    scores,
    share_estimate,
)
from tocsin.explain.directions.records import BUCKETS, Bucket, DirectionStudy, Layer, Steered, Tuned
from tocsin.internals.capture import CaptureEngine, CapturePlan
from tocsin.internals.layout import Position, PromptLayout
from tocsin.internals.steering import Steering, greedy_replies
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel

MIN_PROMPTS = 16
"""Fewest harmful or harmless prompts."""
MIN_BUCKET = 8
"""Fewest prompts of a bucket that a refusal centre is taken from."""
MAX_ROWS = 6
LEAST_RATIO = 0.05
"""A refusal direction shorter than this part of the harmfulness direction is not scaled up and added."""
_CHUNK = 256

_Prompts = Literal["harmless", "harmful"]
_Direction = Literal["none", "harmfulness", "refusal", "random"]
_Sign = Literal[-1, 0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionSettings:
    """Choices of the study."""

    n_fit: int = 100
    """Prompts of each label behind the centres (paper: 100); at most half of what is given is taken."""
    n_test: int = 100
    """Most held-out prompts of each label."""
    n_steered: int = 24
    """Held-out prompts of each label that are steered (paper: 50)."""
    n_rows: int = MAX_ROWS
    """Blocks at whose input directions are added, spread evenly over the depth."""
    coefficient: float = 1.0
    """Paper: 1; its script for reply inversion uses 2."""
    max_new_tokens: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_fit, self.n_test, self.n_steered) < MIN_BUCKET or not 1 <= self.n_rows <= MAX_ROWS:
            message = (
                f"expected at least {MIN_BUCKET} prompts to fit, test and steer, 1 to {MAX_ROWS} rows, got "
                f"{self.n_fit}, {self.n_test}, {self.n_steered} and {self.n_rows}."
            )
            raise UsageError(message)


class Question(NamedTuple):
    """How recognition is asked for, inverted with respect to refusal (card 03, section 3.6)."""

    before: str
    """Put before a request."""
    after: str
    """Put after it; a vector is added only to the tokens before this."""
    reads: Callable[[str], bool | None]
    """True where a reply says harmful, False where it says harmless, None where it says neither."""


class Variant(NamedTuple):
    """A changed model whose beliefs are read by the original centres."""

    name: str
    model: LocalModel


class DirectionData(NamedTuple):
    """Prompts, and how replies are read."""

    harmful: list[str]
    harmless: list[str]
    wrapped: list[str]
    """Harmful prompts inside wrappers; may be empty. Never part of a centre."""
    refuses: Callable[[str], bool]
    end_ids: tuple[int, ...]
    question: Question
    variants: tuple[Variant, ...] = ()
    planted: dict[str, tuple[int, Literal["harmfulness", "refusal"], Floats]] | None = None
    """Name, row and direction that should be found."""


class _Side(NamedTuple):
    """Prompts of one label or kind, with what the model does and holds."""

    texts: list[str]
    refused: NDArray[np.bool_]
    inst: NDArray[np.float32]
    """Shape (n, rows, width)."""
    post: NDArray[np.float32]


def study_directions(
    model: LocalModel,
    data: DirectionData,
    settings: DirectionSettings | None = None,
    *,
    golden: str = "not checked: no file of the released tensors was given",
    stages: Stages | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> DirectionStudy:
    """Make the study. The model's weights are never written.

    Args:
        model: Any model with a chat template.
        data: Prompts; cut to the settings' numbers, in their order.
        settings: The paper's values where it gives them, when None.
        golden: What is said of the published values.
        stages: Where finished parts are kept; nothing is kept when None.
        progress: Told of a part's name, how far it is and of how many.

    Raises:
        InputError: If there are too few prompts.
        ModelError: If the model has no chat template, or its weights changed.
    """
    chosen = settings or DirectionSettings()
    for name, texts in (("harmful", data.harmful), ("harmless", data.harmless)):
        if len(texts) < MIN_PROMPTS:
            message = f"expected at least {MIN_PROMPTS} {name} prompts, got {len(texts)}. Give more."
            raise InputError(message)
    before = weights_digest(model.torch_model)
    try:
        found = _Study(model, data, chosen, stages or Stages(None), progress).run(golden)
    finally:
        if weights_digest(model.torch_model) != before:
            message = "the model's weights changed during the study, which is a mistake of this program."
            raise ModelError(message)
    return found


class _Study:
    def __init__(
        self,
        model: LocalModel,
        data: DirectionData,
        settings: DirectionSettings,
        stages: Stages,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.model, self.data, self.settings = model, data, settings
        self.stages, self.progress = stages, progress
        self.layout = PromptLayout(model)
        self.rows = tuple(range(model.n_blocks + 1))

    def run(self, golden: str) -> DirectionStudy:
        s = self.settings
        parts: dict[str, tuple[_Side, _Side]] = {}
        for name, texts in (("harmful", self.data.harmful), ("harmless", self.data.harmless)):
            n_fit = min(s.n_fit, len(texts) // 2)
            side = self._side(name, texts[: n_fit + s.n_test])
            parts[name] = _cut(side, slice(0, n_fit)), _cut(side, slice(n_fit, None))
        wrapped = self._side("wrapped", self.data.wrapped[: s.n_test]) if self.data.wrapped else None
        (harmful, test_harmful), (harmless, test_harmless) = parts["harmful"], parts["harmless"]
        centres = centre(harmful.inst, "harmful"), centre(harmless.inst, "harmless")
        refused = harmful.post[harmful.refused]
        accepted = harmless.post[~harmless.refused]
        notes: list[str] = []
        gates: tuple[Floats, Floats] | None = None
        if min(len(refused), len(accepted)) >= MIN_BUCKET:
            gates = centre(refused, "refused harmful"), centre(accepted, "accepted harmless")
        else:
            notes.append(
                f"The model refuses {len(refused)} of {len(harmful.texts)} harmful prompts and answers "
                f"{len(accepted)} of {len(harmless.texts)} harmless ones; a refusal direction needs "
                f"{MIN_BUCKET} of each, so there is none, and what needs it is left out."
            )
        harm = centres[0] - centres[1]
        gate = gates[0] - gates[1] if gates else None
        buckets, planes, curves = self._buckets(test_harmful, test_harmless, wrapped, centres, gates)
        labels = np.r_[np.ones(len(test_harmful.texts)), np.zeros(len(test_harmless.texts))].astype(bool)
        both = np.concatenate([scores(side.inst, *centres) for side in (test_harmful, test_harmless)])
        layers = tuple(
            Layer(
                row=row,
                scores={name: mean_estimate(curve[:, row], seed=s.seed) for name, curve in curves.items()},
                auroc=self._auroc(both[:, row], labels),
                cosine=None if gate is None else cosine(harm[row], gate[row]),
                harm_norm=float(np.linalg.norm(harm[row])),
                refusal_norm=None if gate is None else float(np.linalg.norm(gate[row])),
            )
            for row in self.rows
        )
        surface = confound_audit([*test_harmful.texts, *test_harmless.texts], labels, seed=s.seed)
        return DirectionStudy(
            model=self.model.id,
            revision=self.model.revision,
            n_blocks=self.model.n_blocks,
            width=self.model.width,
            n_fit={
                "harmful": len(harmful.texts),
                "harmless": len(harmless.texts),
                "refused harmful": len(refused),
                "accepted harmless": len(accepted),
            },
            buckets=buckets,
            layers=layers,
            auroc=self._auroc(both[:, 1:].mean(axis=1), labels),
            embedding_auroc=self._auroc(both[:, 0], labels),
            surface={name: float(v) if np.isfinite(v) else None for name, v in surface.items()},
            planes=planes,
            steering=self._steering(test_harmful.texts, test_harmless.texts, harm, gate),
            tuned=self._tuned(test_harmful, test_harmless, centres),
            planted=self._planted(harm, gate),
            golden=golden,
            notes=tuple(notes),
            settings=asdict(s),
        )

    def _side(self, name: str, texts: Sequence[str]) -> _Side:
        """Replies and activations of prompts, kept as a finished part."""

        def make() -> dict[str, NDArray[np.generic]]:
            refused = []
            inst, post = [], []
            for start in range(0, len(texts), _CHUNK):
                chunk = texts[start : start + _CHUNK]
                self.progress(f"replies to {name} prompts", start, len(texts))
                refused += self._refusals(self.model, chunk)
                taken = self._capture(self.model, chunk)
                inst.append(taken[:, :, 0])
                post.append(taken[:, :, 1])
            return {
                "refused": np.array(refused, dtype=bool),
                "inst": np.concatenate(inst),
                "post": np.concatenate(post),
            }

        kept = self.stages.arrays(f"side-{name}", make)
        return _Side(list(texts), kept["refused"], kept["inst"], kept["post"])  # type: ignore[arg-type]

    def _capture(self, model: LocalModel, texts: Sequence[str]) -> NDArray[np.float32]:
        plan = CapturePlan(self.rows, (Position.INST, Position.POST))
        return CaptureEngine(model).capture(list(texts), plan).values

    def _refusals(
        self, model: LocalModel, texts: Sequence[str], steering: Steering | None = None
    ) -> list[bool]:
        return [self.data.refuses(text) for text in self._replies(model, texts, steering)]

    def _replies(self, model: LocalModel, texts: Sequence[str], steering: Steering | None) -> list[str]:
        prompts = []
        for text in texts:
            built = self.layout.build(text)
            prompts.append([*built.prefix, *built.ids])
        replies = greedy_replies(
            model,
            prompts,
            end_ids=self.data.end_ids,
            max_new_tokens=self.settings.max_new_tokens,
            steering=steering,
        )
        return [model.decode(reply) for reply in replies]

    def _buckets(
        self,
        harmful: _Side,
        harmless: _Side,
        wrapped: _Side | None,
        centres: tuple[Floats, Floats],
        gates: tuple[Floats, Floats] | None,
    ) -> tuple[tuple[Bucket, ...], dict[str, list[tuple[float, float | None]]], dict[str, Floats]]:
        groups: dict[str, _Side] = dict(
            zip(
                BUCKETS,
                (
                    _cut(harmful, harmful.refused), _cut(harmful, ~harmful.refused),
                    _cut(harmless, harmless.refused), _cut(harmless, ~harmless.refused),
                ),
                strict=True,
            )
        )  # fmt: skip
        if wrapped is not None:
            groups["wrapped harmful"] = wrapped
        buckets: list[Bucket] = []
        planes: dict[str, list[tuple[float, float | None]]] = {}
        curves: dict[str, Floats] = {}
        for name, side in groups.items():
            curve = scores(side.inst, *centres)
            believed = curve[:, 1:].mean(axis=1)
            refusal = scores(side.post, *gates)[:, 1:].mean(axis=1) if gates else np.empty(0)
            seed = self.settings.seed
            buckets.append(
                Bucket(
                    name=name,
                    n=len(side.texts),
                    harmfulness=mean_estimate(believed, seed=seed),
                    refusal=mean_estimate(refusal, seed=seed),
                )
            )
            ends: list[float | None] = list(refusal.tolist()) if gates else [None] * len(believed)
            planes[name] = list(zip(believed.tolist(), ends, strict=True))
            if len(side.texts):
                curves[name] = curve
        return tuple(buckets), planes, curves

    def _auroc(self, values: Floats, labels: NDArray[np.bool_]) -> Estimate:
        return as_estimate(auroc_interval(values, labels, seed=self.settings.seed))

    def _steering(
        self, harmful: list[str], harmless: list[str], harm: Floats, gate: Floats | None
    ) -> tuple[Steered, ...]:
        s, n_blocks = self.settings, self.model.n_blocks
        rows = sorted({round(row) for row in np.linspace(min(1, n_blocks - 1), n_blocks - 1, s.n_rows)})
        generator = np.random.default_rng(s.seed)
        drawn = generator.normal(size=(n_blocks, self.model.width))
        plans: list[tuple[int, _Prompts, _Direction, _Sign]] = [
            (0, "harmless", "none", 0),
            (0, "harmful", "none", 0),
        ]
        for row in rows:
            names: list[_Direction] = ["harmfulness", "random"]
            size = float(np.linalg.norm(harm[row]))
            if gate is not None and float(np.linalg.norm(gate[row])) >= LEAST_RATIO * size:
                names.insert(1, "refusal")
            plans += [(row, "harmless", name, 1) for name in names]
            plans += [(row, "harmful", name, -1) for name in names]
        vectors = {"harmfulness": harm, "random": drawn, "refusal": gate}
        found = []
        for done, (row, prompts, name, sign) in enumerate(plans):
            self.progress("steering", done, len(plans))
            texts = (harmful if prompts == "harmful" else harmless)[: s.n_steered]
            given = vectors.get(name)
            vector = None if given is None else given[row]
            found.append(self._steered(texts, row, prompts, name, sign, vector, harm[row]))
        return tuple(found)

    def _steered(
        self,
        texts: list[str],
        row: int,
        prompts: _Prompts,
        name: _Direction,
        sign: _Sign,
        vector: Floats | None,
        harm: Floats,
    ) -> Steered:
        """All directions are added at the length of the harmfulness direction, so that they compare."""

        def make() -> dict[str, NDArray[np.generic]]:
            direct = asked = None
            if vector is not None:
                size = float(np.linalg.norm(harm)) / float(np.linalg.norm(vector))
                values = (vector * size).astype(np.float32)
                direct = Steering(row, values, sign * self.settings.coefficient)
                # The vector of harmfulness is added to the request only, that of refusal everywhere.
                last = 0 if name == "refusal" else self._after_request()
                asked = Steering(row, values, sign * self.settings.coefficient, last)
            question = self.data.question
            whole = [f"{question.before}{text}{question.after}" for text in texts]
            answers = [question.reads(reply) for reply in self._replies(self.model, whole, asked)]
            return {
                "refused": np.array(self._refusals(self.model, texts, direct), dtype=bool),
                "answers": np.array([-1 if a is None else int(a) for a in answers]),
            }

        kept = self.stages.arrays(f"steer-{prompts}-{name}-{row}", make)
        refused, answers = kept["refused"].astype(np.bool_), kept["answers"].astype(np.int64)
        valid = answers[answers >= 0]
        return Steered(
            row=row,
            prompts=prompts,
            direction=name,
            sign=sign,
            n=len(texts),
            refused=share_estimate(refused),
            says_no=share_estimate(valid == 0),
            n_invalid=len(answers) - len(valid),
        )

    def _after_request(self) -> int:
        """Tokens of the question and of the template's tail."""
        built = self.layout.build("a")
        tail = len(built.ids) - 1 - built.inst
        return tail + len(self.model.encode_untrusted(self.data.question.after).ids)

    def _tuned(self, harmful: _Side, harmless: _Side, centres: tuple[Floats, Floats]) -> tuple[Tuned, ...]:
        found: list[Tuned] = []
        for variant in self.data.variants:
            self.progress("fine-tuned models", len(found), len(self.data.variants))
            believed = [
                scores(self._capture(variant.model, side.texts)[:, :, 0], *centres)[:, 1:].mean(axis=1)
                for side in (harmful, harmless)
            ]
            refusals = self._refusals(variant.model, harmful.texts)
            seed = self.settings.seed
            found.append(
                Tuned(
                    name=variant.name,
                    n=len(harmful.texts),
                    harmfulness=mean_estimate(believed[0], seed=seed),
                    harmless=mean_estimate(believed[1], seed=seed),
                    refused=sum(refusals) / len(refusals),
                )
            )
        return tuple(found)

    def _planted(self, harm: Floats, gate: Floats | None) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (row, kind, truth) in (self.data.planted or {}).items():
            given = harm if kind == "harmfulness" else gate
            value = None if given is None else cosine(given[row], truth)
            found[name] = abs(value) if value is not None else 0.0
        return found


def _cut(side: _Side, where: slice | NDArray[np.bool_]) -> _Side:
    texts = list(np.array(side.texts, dtype=object)[where])
    return _Side(texts, side.refused[where], side.inst[where], side.post[where])
