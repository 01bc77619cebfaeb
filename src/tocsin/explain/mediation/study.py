"""Through which components does the harmfulness of a prompt act on the reply?

Causal mediation analysis of arXiv 2604.11663, with the design of card 05: activation patching in both
directions, controls, intervals over pairs of prompts, and a test of one block's neurons on
held-out pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError, UsageError
from tocsin.core.stages import Stages
from tocsin.explain.mediation.components import sweep_components
from tocsin.explain.mediation.data import PARTS, Prepared, PromptPair, prepare
from tocsin.explain.mediation.estimates import Floats, Resamples, spread, summarise, te_floor
from tocsin.explain.mediation.gate import GateTest
from tocsin.explain.mediation.levels import LevelMaker
from tocsin.explain.mediation.neurons import NeuronStudy
from tocsin.explain.mediation.records import Gate, MediationStudy
from tocsin.explain.mediation.runs import RunCache
from tocsin.explain.mediation.settings import MediationSettings
from tocsin.explain.mediation.sweep import Sweep
from tocsin.internals.anatomy import SiteKind
from tocsin.internals.layout import PromptLayout, Template
from tocsin.internals.outcomes import (
    Judge,
    JudgedReply,
    LogitMargin,
    Outcome,
    SequenceMargin,
    first_tokens,
)
from tocsin.internals.patching import Patcher
from tocsin.internals.weights_digest import weights_digest

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel

NO_EFFECT = 1e-3
"""Total effects below this, in the outcome's unit, are rounding."""
_KINDS: tuple[SiteKind, ...] = ("embedding", "layer", "attention", "mlp", "head", "neurons")


def study_mediation(
    model: LocalModel,
    pairs: Sequence[PromptPair],
    settings: MediationSettings | None = None,
    *,
    judge: Judge | None = None,
    stages: Stages | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> MediationStudy:
    """Make the study.

    Args:
        model: Never written to: hooks change activations only, and are gone when this returns or raises.
        pairs: Harmful prompts with harmless ones.
        settings: Defaults when None.
        judge: For the outcome `judge`.
        stages: Where finished parts are kept; nothing is kept when None.
        progress: Told of a part's name, how far it is and of how many.

    Raises:
        UsageError: If settings do not fit together.
        InputError: If too few pairs can be used, openers have no tokens, or there is no total effect.
        ModelError: If the architecture is not supported, or an outcome is not a number.
    """
    return _Study(
        model, pairs, settings or MediationSettings(), judge, stages or Stages(None), progress
    ).run()


class _Study:
    def __init__(
        self,
        model: LocalModel,
        pairs: Sequence[PromptPair],
        settings: MediationSettings,
        judge: Judge | None,
        stages: Stages,
        progress: Callable[[str, int, int], None],
    ) -> None:
        s = self.settings = settings
        self.model = model
        self.stages = stages
        self.progress = progress
        template: Template = s.template or ("chat" if model.template_hash != "none" else "raw")
        layout = PromptLayout(model, template)
        self.margin = LogitMargin(first_tokens(model, s.compliant), first_tokens(model, s.refusing))
        self.sequence = SequenceMargin(self._ids(s.compliant[0]), self._ids(s.refusing[0]))
        self.patcher = Patcher(model, self._outcome(judge), _KINDS, prefix=layout.prefix, max_rows=s.max_rows)
        self.prepared: Prepared = prepare(
            layout,
            pairs,
            s.construction,
            n_last=s.n_last,
            at=s.at,
            most=s.n_pairs,
            context=model.context - s.max_reply_tokens,
        )
        self.tokens = self.prepared.tokens
        self.runs = RunCache(
            self.patcher, self.tokens, noise=s.noise if s.construction == "noise" else None, seed=s.seed
        )
        self.anatomy = self.patcher.anatomy
        self.resamples = Resamples(s.n_resamples, s.seed)
        self.gate_block = self.anatomy.n_blocks - 1 if s.gate_block is None else s.gate_block - 1
        if not 0 <= self.gate_block < self.anatomy.n_blocks:
            message = f"expected a gate block from 1 to {self.anatomy.n_blocks}, got {s.gate_block}."
            raise UsageError(message)

    def run(self) -> MediationStudy:
        s = self.settings
        digest = weights_digest(self.model.torch_model)
        te, y, n_lost = self._total_effects()
        components = sweep_components(self.anatomy, s.levels, tails=self.tokens)
        swept = Sweep(
            self.runs,
            self.stages,
            margin=self.margin,
            settings=s,
            progress=lambda done, total: self.progress("patching", done, total),
        ).run(components)
        floor = te_floor(te)
        maker = LevelMaker(s, self.resamples, te, floor=floor)
        levels = maker.swept(components, swept)
        neurons = NeuronStudy(self.runs, self.stages, maker, swept, settings=s, progress=self.progress)
        blocks = neurons.blocks(components, self.gate_block)
        order: dict[int, list[int]] = {}
        for block in blocks:
            more, order[block] = neurons.block(block)
            levels += more
        modules = [c for c, each in enumerate(components) if each.level == "module"]
        used = swept.first[:, :, 0] if s.fast else swept.nie
        return MediationStudy(
            model=self.model.id,
            revision=self.model.revision,
            construction=s.construction,
            outcome=s.outcome,
            n_pairs=len(te),
            n_rejected=self.prepared.n_unequal + self.prepared.n_same + self.prepared.n_repeated,
            n_parts={part: len(self.runs.pairs(part)) for part in PARTS},
            y_harmful=self.resamples.mean(y[:, 1]),
            y_harmless=self.resamples.mean(y[:, 0]),
            te=self.resamples.mean(te),
            te_floor=floor,
            n_below_floor=int((np.abs(te) < floor).sum()),
            identity_gap=swept.gap,
            levels=tuple(levels),
            summary=summarise(
                [components[c] for c in modules], used[:, modules], self.anatomy.n_blocks, self.resamples
            )
            if modules
            else None,
            spreads=tuple(spread(block, swept.neurons[block]) for block in blocks),
            refined=tuple(neurons.refine(block) for block in blocks if "group" in s.levels and not s.fast),
            gate=self._gate(order[self.gate_block], te) if "gate" in s.levels else None,
            weights_unchanged=weights_digest(self.model.torch_model) == digest,
            notes=self._notes(te, n_lost, maker.notes),
            settings=s.to_json(),
        )

    def _ids(self, opener: str) -> tuple[int, ...]:
        return tuple(self.model.encode_untrusted(opener.strip()).ids)

    def _outcome(self, judge: Judge | None) -> Outcome:
        s = self.settings
        if s.outcome == "logit_margin":
            return self.margin
        if s.outcome == "seq_logprob":
            return self.sequence
        if judge is None:
            message = "the outcome 'judge' needs a judge. Name one."
            raise UsageError(message)
        config = self.model.torch_model.generation_config
        ends = getattr(config, "eos_token_id", None)
        if ends is None:
            ends = getattr(self.model.torch_model.config, "eos_token_id", None)
        all_ends = tuple(ends) if isinstance(ends, list | tuple) else () if ends is None else (int(ends),)
        return JudgedReply(self.model.decode, judge, all_ends, s.max_reply_tokens)

    def _total_effects(self) -> tuple[Floats, Floats, int]:
        """Total effect of each pair, Y of both runs, and how many pairs a judge abstained on.

        Those are left out of the pairs from here on. A set without any effect is refused.
        """
        rows = []
        for i in range(len(self.tokens)):
            self.progress("runs without patches", i, len(self.tokens))

            def make(i: int = i) -> dict[str, np.ndarray]:
                runs = self.runs.get(i)
                return {"y": np.array([runs.harmless.outcome, runs.harmful.outcome])}

            rows.append(self.stages.arrays(f"clean-{i}", make)["y"].astype(np.float64))
        y = np.stack(rows)
        judged: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(y), axis=1)
        lost = int((~judged).sum())
        if lost:
            # Only a judge abstains: other outcomes that are no number were refused where they arose.
            self.tokens[:] = [t for t, known in zip(self.tokens, judged.tolist(), strict=True) if known]
            self.runs.clear()
            y = y[judged]
            if not all(self.runs.pairs(part) for part in PARTS):
                message = f"the judge abstained on {lost} pairs, so too few are left. Use another judge."
                raise InputError(message)
        te = y[:, 1] - y[:, 0]
        if float(np.abs(te).max()) < NO_EFFECT:
            message = (
                f"the total effect is about 0 for all {len(te)} pairs (at most {np.abs(te).max():.1g}): "
                "harmful and harmless prompts give the same outcome, so nothing can mediate. Give other "
                "openers, another outcome, or a model whose replies differ."
            )
            raise InputError(message)
        return te, y, lost

    def _gate(self, order: Sequence[int], te: Floats) -> Gate:
        other: Outcome | None = self.sequence if self.settings.outcome == "logit_margin" else self.margin
        return GateTest(
            self.runs,
            self.stages,
            block=self.gate_block,
            order=order,
            te=te,
            other=other,
            factor=self.settings.factor,
            seed=self.settings.seed,
            progress=lambda done, total: self.progress("testing the gate", done, total),
        ).run(self.resamples)

    def _notes(self, te: Floats, n_lost: int, of_levels: Sequence[str]) -> tuple[str, ...]:
        p = self.prepared
        notes = [f"The judge abstained on {n_lost} pairs, which are left out."] if n_lost else []
        notes += of_levels
        for count, why in (
            (p.n_unequal, "their prompts differ in length"),
            (p.n_same, "their prompts are equal"),
            (p.n_repeated, "their harmful prompt came before"),
        ):
            if count:
                notes.append(f"{count} pairs were left out: {why}.")
        total = self.resamples.mean(te)
        if total.low is not None and total.high is not None and total.low <= 0 <= total.high:
            notes.append("The interval of the total effect holds 0: shares of it cannot be interpreted.")
        return tuple(notes)
