"""What an audit finds."""

from __future__ import annotations

from pydantic import Field, JsonValue

from tocsin.core.records import SCHEMA_VERSION, Record
from tocsin.core.stats.item_sums import Estimate
from tocsin.explain.audit.deltas import MatrixDelta
from tocsin.explain.audit.repair import RepairKind
from tocsin.explain.audit.verdict import AuditVerdict


class Success(Record):
    """Attack success of one model: the share of harmful prompts answered harmfully."""

    n: int
    unjudged: int
    """Replies on which the judge abstained; the rate is over the others."""
    rate: Estimate
    least: float
    """Were all unjudged replies harmless."""
    most: float
    """Were all of them harmful."""


class DirectHarm(Record):
    """Stage A."""

    base: Success
    suspect: Success | None
    """None where the base does not refuse, so that nothing can be said of the suspect."""
    rise: Estimate | None
    """Suspect's less base's, paired."""
    base_refused: Estimate
    """Harmless prompts refused."""
    suspect_refused: Estimate | None


class Assessments(Record):
    """Stage B, one model."""

    n_harmful: int
    n_harmless: int
    recognition: Estimate
    """Harmful prompts called harmful; what cannot be read counts as wrong."""
    false_alarm: Estimate
    """Harmless prompts called harmful, or not read."""
    youden: Estimate
    """Recognition less false alarm."""
    policy: Estimate
    """Harmful prompts that it says should be refused."""
    safe_description: Estimate
    """Harmful prompts for which the safe response it describes is not harmful, by the judge."""
    parsed: Estimate
    mended: int
    """Assessments that were read at the second attempt."""
    refused: int
    """Prompts, of both sides, that it refused to assess; they are not read, and are no 'harmless'."""


class SelfAuditStage(Record):
    """Stage B."""

    base: Assessments
    suspect: Assessments
    kept_youden: Estimate
    """Suspect's over base's; null where the base has less than 0.1."""
    kept_policy: Estimate
    kept_description: Estimate
    knowing_doing: Estimate
    """Harmful prompts that the suspect calls harmful, says should be refused, and answers."""
    base_knowing_doing: Estimate


class Reflection(Record):
    """Stage C."""

    direct: Estimate
    scaffold: Estimate
    """Attack success after the instruction to reflect."""
    neutral: Estimate
    """Attack success after an instruction to plan."""
    suppression: Estimate
    """How far the scaffold takes success back to the base's."""
    net_effect: Estimate
    """Neutral less scaffold: what is due to reflecting on safety."""
    benign_cost: Estimate
    """Rise of refusals of harmless prompts under the scaffold."""
    unmarked: int
    """Reflected replies without the marker before their answer; they are judged whole."""
    swayed: Estimate
    """Share of verdicts that change when the judge sees the reflection too."""


class CategoryRate(Record):
    """Stage D, one category."""

    category: str
    n: int
    base: Estimate
    suspect: Estimate
    is_small: bool
    """Whether it has fewer than 20 prompts; nothing is concluded from it."""


class Profile(Record):
    """Stage D: how a suspect's attack success is spread."""

    categories: tuple[CategoryRate, ...]
    spread: float | None
    """Largest less smallest rate."""
    entropy: float | None
    """Of the rates' shares, over its largest possible value: 1 is flat."""


class Ability(Record):
    """Stage E: tasks with a right reply."""

    n: int
    base_exact: Estimate
    suspect_exact: Estimate
    """Tasks whose whole right reply greedy writing gives."""
    exact_change: Estimate
    mcnemar_p: float
    """Exact and two-sided, on tasks that one model alone gives."""
    tokens_change: Estimate
    """Change of the share of reply tokens that are the likeliest."""
    loss_change: Estimate
    """Rise of the right replies' mean negative log-likelihood, in nats per token."""


class Drift(Record):
    """Stage E: how continuations of harmless prompts differ from the base's."""

    name: str
    n: int
    n_tokens: int
    kl: Estimate
    """Mean KL(base || other), nats per token."""
    agreement: Estimate
    """Share of tokens with the same likeliest token."""
    rouge_l: Estimate
    """F of the other's own reply with the base's."""
    length: Estimate
    """Ratio of lengths in tokens."""
    refused_change: Estimate
    """Change of the share of these prompts refused."""


class DriftStage(Record):
    """Stage E: drift beside benign controls."""

    suspect: Drift
    controls: tuple[Drift, ...]
    limit: float | None
    """KL that benign fine-tunes stay under: their 95 % quantile, or the largest of fewer than 20."""
    index: float | None
    """Mean over KL, disagreement, ROUGE-L lost and change of length of the distance from the controls' mean
    in their standard deviations; null with fewer than three controls."""


class LayerMeasures(Record):
    """Stage F, F1 to F4 after one block at one position."""

    row: int
    """r: the output of block r, counted from 1."""
    position: str
    """`post`: last token of the templated prompt. `inst`: last token of the instruction."""
    cosine: float | None
    """F1: between both models' directions."""
    floor: float | None
    """Mean cosine between halves of the base's own prompts."""
    floor_low: float | None
    """Their 5 % quantile."""
    gap: float | None
    """F2."""
    auroc_base: float | None
    """F3 on the base itself."""
    auroc: float | None
    """F3."""
    auroc_beside: float | None
    """F3 with the base's chosen direction taken out."""
    cka_harmful: float | None
    """F4, debiased."""
    cka_harmless: float | None


class DirectionChoice(Record):
    """The base's direction that F5 and the repairs use."""

    row: int
    position: str
    by_ablation: bool
    """Whether it was chosen because the base refuses least without it; otherwise its probe reads best."""
    n_dropped: int
    """Prompts left out because the base's own refusal score has the wrong sign on them."""
    shared_share: float | None
    """Of the changes' size in writing matrices that one common direction carries, each counted alike."""
    shared_cosine: float | None
    """|cosine| of that direction with the nearest of the base's directions."""
    shared_row: int | None
    shared_position: str | None
    measured_along_shared: bool
    """Whether F5 was measured along it (it is a direction of the base), or along the chosen one."""


class Repair(Record):
    """Stage G, one repair."""

    kind: RepairKind
    name: str
    success: Estimate
    """Attack success left."""
    recovery: Estimate
    """How far success goes back to the base's."""
    over_refusal: Estimate
    """Rise of refusals of harmless prompts."""
    ability_loss: Estimate
    """Fall of the share of right reply tokens."""
    on_frontier: bool
    """Whether no other repair recovers as much at less damage."""

    @property
    def damage(self) -> float:
        """Over-refusal and lost ability together."""
        return (self.over_refusal.value or 0.0) + (self.ability_loss.value or 0.0)


class AuditStudy(Record):
    """An audit of a suspect against its base (card 02)."""

    schema_version: int = SCHEMA_VERSION
    base: str
    base_revision: str
    suspect: str
    suspect_revision: str
    judge: str
    base_refuses: bool
    n: dict[str, int]
    """Prompts and tasks of each use."""
    direct: DirectHarm
    self_audit: SelfAuditStage | None
    reflection: Reflection | None
    profile: Profile | None
    ability: Ability
    drift: DriftStage
    layers: tuple[LayerMeasures, ...]
    direction: DirectionChoice
    matrices: tuple[MatrixDelta, ...]
    repairs: tuple[Repair, ...]
    verdict: AuditVerdict
    recommendation: str
    """The cheapest defence whose effect is shown, or that there is none."""
    weights_unchanged: bool
    """Whether every weight of both models had its old bits after the audit."""
    notes: tuple[str, ...] = ()
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    def to_json(self) -> str:
        """The audit as indented JSON."""
        return self.model_dump_json(indent=2)
