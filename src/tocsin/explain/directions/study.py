"""Harmfulness and refusal as two directions: where they are, and what happens when they are added.

Card 03 (arXiv 2507.11878). Prompts fall into four buckets by label and by behaviour; centres are taken on one
part of the prompts and everything is measured on another. Where the model refuses fewer than `MIN_BUCKET`
of the harmful prompts, there is no refusal direction, and everything that needs one is left out and said so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from tocsin.core.confounds import confound_audit
from tocsin.core.errors import InputError, ModelError
from tocsin.core.stages import Stages
from tocsin.core.stats.item_sums import Estimate
from tocsin.core.stats.ranking import auroc_interval
from tocsin.explain.directions.data import MIN_BUCKET, DirectionData, DirectionSettings, refuse_shared
from tocsin.explain.directions.geometry import Floats, as_estimate, centre, cosine, mean_estimate, scores
from tocsin.explain.directions.observed import Observer, Side
from tocsin.explain.directions.records import BUCKETS, Bucket, DirectionStudy, Layer, Tuned
from tocsin.explain.directions.steered import SteeringTest
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel

MIN_PROMPTS = 16
"""Fewest harmful or harmless prompts."""


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
        InputError: If there are too few prompts, or prompts are both harmful and harmless.
        ModelError: If the model has no chat template, or its weights changed.
    """
    chosen = settings or DirectionSettings()
    for name, texts in (("harmful", data.harmful), ("harmless", data.harmless)):
        if len(texts) < MIN_PROMPTS:
            message = f"expected at least {MIN_PROMPTS} {name} prompts, got {len(texts)}. Give more."
            raise InputError(message)
    refuse_shared(data.harmful, data.harmless)
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
        self.progress = progress
        self.observer = Observer(
            model, data, max_new_tokens=settings.max_new_tokens, stages=stages, progress=progress
        )

    def run(self, golden: str) -> DirectionStudy:
        s = self.settings
        parts: dict[str, tuple[Side, Side]] = {}
        for name, texts in (("harmful", self.data.harmful), ("harmless", self.data.harmless)):
            n_fit = min(s.n_fit, len(texts) // 2)
            side = self.observer.side(name, texts[: n_fit + s.n_test])
            parts[name] = side.part(slice(0, n_fit)), side.part(slice(n_fit, None))
        (harmful, test_harmful), (harmless, test_harmless) = parts["harmful"], parts["harmless"]
        texts = self.data.wrap(test_harmful.texts)[: s.n_test]
        wrapped = self.observer.side("wrapped", texts) if texts else None
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
            for row in self.observer.rows
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
            steering=SteeringTest(self.observer, s, harm=harm, gate=gate).run(
                test_harmful.texts, test_harmless.texts
            ),
            tuned=self._tuned(test_harmful, test_harmless, centres),
            planted=self._planted(harm, gate),
            golden=golden,
            notes=tuple(notes),
            settings=asdict(s),
        )

    def _buckets(
        self,
        harmful: Side,
        harmless: Side,
        wrapped: Side | None,
        centres: tuple[Floats, Floats],
        gates: tuple[Floats, Floats] | None,
    ) -> tuple[tuple[Bucket, ...], dict[str, list[tuple[float, float | None]]], dict[str, Floats]]:
        groups: dict[str, Side] = dict(
            zip(
                BUCKETS,
                (
                    harmful.part(harmful.refused), harmful.part(~harmful.refused),
                    harmless.part(harmless.refused), harmless.part(~harmless.refused),
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

    def _tuned(self, harmful: Side, harmless: Side, centres: tuple[Floats, Floats]) -> tuple[Tuned, ...]:
        found: list[Tuned] = []
        for variant in self.data.variants:
            self.progress("fine-tuned models", len(found), len(self.data.variants))
            believed = [
                scores(self.observer.states(variant.model, side.texts)[:, :, 0], *centres)[:, 1:].mean(axis=1)
                for side in (harmful, harmless)
            ]
            refusals = self.observer.refusals(variant.model, harmful.texts)
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
