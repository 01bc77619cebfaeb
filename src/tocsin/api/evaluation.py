"""What an evaluation reports: the record behind `tocsin evaluate` and its JSON."""

from __future__ import annotations

from pydantic import JsonValue

from tocsin.core.records import Provenance, Record

Interval = tuple[float, float]


class Shares(Record):
    """Rates with 95 % intervals (Wilson; at the effective sample size where rows share groups)."""

    accuracy: float | None
    accuracy_ci: Interval | None
    sensitivity: float | None
    """Share of positives that are flagged."""
    sensitivity_ci: Interval | None
    specificity: float | None
    """Share of negatives that are not flagged."""
    specificity_ci: Interval | None


class Confusion(Record):
    """Scored rows by label and flag."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


class ReliabilityBin(Record):
    """Scored rows whose score falls between two bounds."""

    low: float
    high: float
    n: int
    mean_score: float
    positive_share: float
    positive_share_ci: Interval


class Calibration(Record):
    """Whether scores can be read as probabilities, at this data's share of positives."""

    brier: float
    ece: float
    bins: tuple[ReliabilityBin, ...]


class Evaluation(Record):
    """What a detector's verdicts on labelled rows come to. Its own rates are over scored rows only."""

    detector: str
    n: int
    """Rows: scored + abstained."""
    scored: int
    abstained: int
    coverage: float
    """scored / n."""
    n_positive: int
    n_negative: int
    unlabelled: int
    """Rows without a label; not shown to the detector and not in `n`."""
    partial: int
    """Scored rows of which something was left unread."""
    n_groups: int | None
    """Groups among all rows, where a group column was named."""
    auroc: float | None
    auroc_ci: Interval | None
    auroc_method: str
    """How the ranking intervals were made."""
    average_precision: float | None
    average_precision_ci: Interval | None
    ranked_by: str | None
    """`raw_score` or `score`."""
    accuracy: float | None
    accuracy_ci: Interval | None
    sensitivity: float | None
    sensitivity_ci: Interval | None
    specificity: float | None
    specificity_ci: Interval | None
    abstentions_count_against: Shares
    """The same rates where an abstention is not caught, falsely flagged, or wrong."""
    confusion: Confusion
    abstentions: dict[str, int]
    """Abstained rows by reason."""
    recall_at_fpr: dict[str, float | None]
    """Sensitivity at the threshold that flags at most 0.01, 0.05, 0.10 of the negatives."""
    recall_at_fpr_ci: dict[str, Interval | None]
    calibration: Calibration | None
    confounds: dict[str, float | None]
    """AUROC of each surface baseline on the scored rows, and of a bag of words."""
    threshold: float | None
    """On the scale of `score`; None when verdicts differ in it or there is none."""
    threshold_source: str | None
    positive: tuple[str, ...]
    """Labels that count as positive."""
    reasons: dict[str, str]
    """Why a number is null, by its key."""
    notes: tuple[str, ...]
    """What a reader should know."""
    provenance: tuple[Provenance, ...]
    """How the verdicts came about; usually one."""
    source: dict[str, JsonValue]
    """What was read."""

    def to_json(self) -> str:
        """Indented JSON in pure ASCII, every key present."""
        return self.model_dump_json(indent=2, ensure_ascii=True)
