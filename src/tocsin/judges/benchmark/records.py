"""What a ranking of judges found. `JudgeRanking` is the JSON twin of the page; a missing number is null."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from tocsin.core.records import SCHEMA_VERSION, Record
from tocsin.core.stats.item_sums import Estimate


class LengthControl(Record):
    """The same judge with length taken out."""

    overall: Estimate
    """Overall score after what length explains was taken off."""
    pair_accuracy: Estimate
    """Pair accuracy after the same."""
    misleading_accuracy: Estimate
    """Share of right pairs among those whose other response is at least as long as the harmful one."""
    misleading_pairs: int
    """Number of such pairs."""
    correlation: float | None
    """Spearman correlation of score and number of words over all responses."""


class Part(Record):
    """A judge on a part of the benchmark."""

    name: str
    n_prompts: int
    overall: Estimate
    """Null for an attack: the worst case is over all harmful responses of a prompt."""
    pair_accuracy: Estimate


class JudgeScore(Record):
    """How one judge does."""

    judge: str
    n_prompts: int
    """Prompts of which every response has a score; all figures are over these."""
    coverage: float
    """Share of responses with a score."""
    abstained: dict[str, int]
    """Responses without a score, by reason."""
    rounds: int
    overall: Estimate
    """Mean over prompts by the chosen rule, from 0 to 1."""
    overall_all_prompts: float
    """The same when a prompt with a missing score earns nothing."""
    other_rule: Estimate
    """By the rule that was not chosen."""
    fine: dict[str, Estimate]
    """Fine-grained scores by category."""
    pair_accuracy: Estimate
    """Share of (harmful, other) pairs in the right order: far less noisy than the worst-case scores."""
    length: LengthControl
    sources: tuple[Part, ...]
    """By the source of the prompt."""
    attacks: tuple[Part, ...]
    """By the method that got the harmful response; only its pairs count, so there is no overall score."""


class JudgeDifference(Record):
    """The best judge against another, on the prompts that both scored."""

    best: str
    other: str
    n_prompts: int
    difference: Estimate
    """Of overall scores."""
    p_value: float
    """Paired permutation test, two-sided."""
    p_holm: float
    """Corrected for all comparisons."""


class JudgeRanking(Record):
    """Which judges can be trusted to tell harmful responses from others (arXiv 2509.24384)."""

    schema_version: int = SCHEMA_VERSION
    data: str
    """Name of the file."""
    data_hash: str
    layout: Literal["v1", "v2", "own"]
    rule: Literal["v1", "v2"]
    n_prompts: int
    n_responses: int
    incomplete: dict[str, str]
    """What is missing, by the id of each prompt that was left out."""
    judges: tuple[JudgeScore, ...]
    """Best first."""
    differences: tuple[JudgeDifference, ...]
    notes: tuple[str, ...] = ()
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    def score(self, judge: str) -> JudgeScore:
        """The figures of one judge.

        Raises:
            KeyError: If it was not ranked.
        """
        for each in self.judges:
            if each.judge == judge:
                return each
        raise KeyError(judge)

    def to_json(self) -> str:
        """The ranking as indented JSON."""
        return self.model_dump_json(indent=2)
