"""What a causal mediation analysis finds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from tocsin.core.records import SCHEMA_VERSION, Record
from tocsin.core.stats.item_sums import Estimate

LevelName = Literal[
    "layer", "layer_at_content", "module", "window", "head", "group", "neuron", "region", "place"
]
Order = Literal["effect", "random", "magnitude"]
"""How neurons are chosen: by their effect; at random; those whose activations are as large as the first's."""
Intervention = Literal["patch", "zero", "mean", "clamp", "scale"]
"""What neurons are set to: the harmless run's values; 0; their mean on harmless prompts; at most their 95th
percentile there; a multiple of themselves."""


class Effect(Record):
    """What one component carries. Effects are in the unit of the outcome, means over pairs of prompts."""

    name: str
    block: int | None
    """From 1; None for parts that are not of one block."""
    n: int
    """Pairs."""
    nie: Estimate
    """Natural indirect effect: the harmless run with the component's harmful activation, less the harmless
    run (sufficiency)."""
    rnie: Estimate
    """Reverse: the harmful run less the harmful run with the harmless activation (necessity)."""
    nde: Estimate
    """Natural direct effect: total effect less `rnie`."""
    interaction: Estimate
    """Total effect less `nie` less `nde`."""
    nie_share: Estimate
    """Mean of `nie` over mean of the total effect (ratio of averages)."""
    rnie_share: Estimate
    nie_mean_share: Estimate
    """Mean over pairs of `nie` over the pair's total effect; pairs below the floor left out."""
    rnie_mean_share: Estimate
    control: Estimate | None
    """`nie` of a patch of the same size in a random direction; None where it was not patched."""
    p: float | None
    """Studentised bootstrap over pairs: is `nie` 0?"""
    p_holm: float | None
    """Corrected for all components of the level."""
    p_bh: float | None


class Level(Record):
    """All components of one kind."""

    name: LevelName
    effects: tuple[Effect, ...]
    is_estimated: bool
    """Effects are first-order estimates (attribution patching), not patched runs."""
    agreement: float | None
    """Spearman correlation of first-order estimates with patched runs, over components' mean effects."""
    n_agreement: int
    """Pairs that the agreement was measured on."""
    directions: float | None
    """Spearman correlation of `nie` with `rnie` over components."""


class Summary(Record):
    """Where effects lie, from single modules (not cumulative)."""

    depth: Estimate
    """Centre of mass of absolute module effects, from 0 (first block) to 1 (last block)."""
    mlp_share: Estimate
    """Absolute MLP effects over those of MLP and attention, all blocks."""
    late_mlp_share: Estimate
    """The same in the last third of the blocks."""


class NeuronSpread(Record):
    """How unevenly one block's neurons share their effect; first-order estimates over all of them."""

    block: int
    n_neurons: int
    gini: float | None
    """Of absolute mean effects: 0 when all are equal, 1 when one has all."""
    top_share: float | None
    """Share of the top 1 % of neurons in the sum of absolute mean effects."""
    histogram: tuple[tuple[float, float], ...]
    """Absolute effect, and the share of neurons at or above it."""


class Refined(Record):
    """Windows of neighbouring neurons halved on discovery pairs, best first."""

    block: int
    windows: tuple[tuple[int, int, float], ...]
    """First neuron, one past the last, mean effect of both directions towards the total effect."""


class GatePoint(Record):
    """Neurons set to something on pairs that took no part in their choice."""

    order: Order
    intervention: Intervention
    part: Literal["select", "test"]
    k: int
    outcome: Estimate
    """Y of harmful prompts."""
    share: Estimate
    """Change of Y over the total effect."""
    harmless_outcome: Estimate
    """Y of harmless prompts under the same intervention."""


class GateUtility(Record):
    """What the chosen set costs on held-out prompts, with the intervention at every place."""

    intervention: Intervention
    perplexity_ratio: Estimate
    """Perplexity of harmless prompts, over that without intervention."""
    harmless_refusals: float | None
    """Share of harmless test prompts whose first word is nearer to a refusal (Y < 0); None for a judge,
    and where no pair has a harmless prompt of its own (only with noise)."""
    harmful_refusals: float | None


class Gate(Record):
    """Neurons of one block: ordered on one part of the pairs, sized on another, tested on a third."""

    block: int
    n_neurons: int
    k: int | None
    """Smallest tried set with 80 % of the whole MLP's effect on selection pairs; None if there is none."""
    sparsity: float | None
    """k over the block's neurons."""
    neurons: tuple[int, ...]
    """The set; the 20 first neurons where `k` is None."""
    whole: Estimate
    """Change of Y on test pairs when all neurons of the block are patched."""
    swapped: Estimate
    """Change of the other outcome on test pairs, over its total effect: does the gate only encode openers?"""
    points: tuple[GatePoint, ...]
    utility: tuple[GateUtility, ...]
    refusals_before: tuple[float | None, float | None]
    """Of harmless and of harmful test prompts without intervention."""


class MediationStudy(Record):
    """Through which parts of a model harmful prompts act on its reply (arXiv 2604.11663)."""

    schema_version: int = SCHEMA_VERSION
    model: str
    revision: str
    construction: str
    outcome: str
    n_pairs: int
    n_rejected: int
    """Pairs that could not be used, such as those of unequal length."""
    n_parts: dict[str, int]
    """Pairs of `discover`, `select` and `test`."""
    y_harmful: Estimate
    y_harmless: Estimate
    te: Estimate
    """Total effect: Y of the harmful run less Y of the counterfactual run."""
    te_floor: float
    """Pairs with a smaller absolute total effect are left out of averages of ratios."""
    n_below_floor: int
    identity_gap: float
    """Largest change of Y by patching a component with its own value: rounding, and nothing else."""
    levels: tuple[Level, ...]
    summary: Summary | None
    spreads: tuple[NeuronSpread, ...]
    refined: tuple[Refined, ...]
    gate: Gate | None
    weights_unchanged: bool
    notes: tuple[str, ...] = ()
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    def level(self, name: str) -> Level:
        """One level.

        Raises:
            KeyError: If it was not studied.
        """
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(name)

    def to_json(self) -> str:
        """The study as indented JSON."""
        return self.model_dump_json(indent=2)
