"""From verdicts to figures: flagged shares, rankings of two sets, and what abstentions do to both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from common import Json, rate_json
from pydantic import JsonValue

from tocsin.core.confounds import confound_audit
from tocsin.core.records import Item, Verdict
from tocsin.core.registry import Detector
from tocsin.core.stats import auroc, ranking_intervals, wilson

CHUNK = 256
"""Items given to all detectors in turn, so that they share one forward pass."""
FPRS = (0.01, 0.05)


@dataclass(slots=True)
class Scored:
    """A set of items and one detector's verdicts on them, in order."""

    items: list[Item] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def part(self, rows: Sequence[int]) -> Scored:
        """Some of the rows."""
        return Scored([self.items[row] for row in rows], [self.verdicts[row] for row in rows])


def score(detectors: Mapping[str, Detector], items: Sequence[Item]) -> dict[str, Scored]:
    """Verdicts of several detectors on the same items.

    Detectors that share a context make one forward pass for each chunk.
    """
    found = {name: Scored(list(items)) for name in detectors}
    for at in range(0, len(items), CHUNK):
        for name, detector in detectors.items():
            found[name].verdicts += detector.detect(items[at : at + CHUNK])
    return found


def shares(scored: Scored, *, is_harmful: bool) -> Json:
    """Flagged share with Wilson's interval, and the same with abstentions counted against the detector."""
    n = len(scored.verdicts)
    reasons = Counter(one.abstained.reason.value for one in scored.verdicts if one.abstained is not None)
    abstained = sum(reasons.values())
    flagged = sum(one.flagged is True for one in scored.verdicts)
    return {
        "n": n,
        "abstained": abstained,
        "abstained_by_reason": dict(reasons),
        "scored_share": (n - abstained) / n if n else None,
        "flagged": rate_json(wilson(flagged, n - abstained)),
        # Not caught, or falsely flagged.
        "flagged_abstentions_against": rate_json(wilson(flagged + (0 if is_harmful else abstained), n)),
    }


def comparison(harmful: Scored, harmless: Scored, *, groups: str | None = None) -> Json:
    """Ranking of two sets by raw score with bootstrap intervals, beside the audit of their surface.

    Args:
        harmful: Scored items of the positive class.
        harmless: Scored items of the negative class.
        groups: Metadata field whose equal values share a source (twins).
    """
    items = harmful.items + harmless.items
    verdicts = harmful.verdicts + harmless.verdicts
    labels = [True] * len(harmful.items) + [False] * len(harmless.items)
    kept = [row for row, one in enumerate(verdicts) if one.raw_score is not None]
    scores = [raw_of(verdicts[row]) for row in kept]
    kept_labels = [labels[row] for row in kept]
    kept_groups = [str(items[row].metadata[groups]) for row in kept] if groups else None
    ranked = ranking_intervals(scores, kept_labels, kept_groups, fprs=FPRS)
    against = [
        raw_of(one) if one.raw_score is not None else (-math.inf if label else math.inf)
        for one, label in zip(verdicts, labels, strict=True)
    ]
    texts = [items[row].text or _purpose(items[row]) for row in kept]
    audit = _audit(tuple(texts), tuple(kept_labels), tuple(kept_groups) if kept_groups else None)
    recalls: Json = {f"{fpr:.2f}": rate_json(rate) for fpr, rate in ranked.recall_at_fpr.items()}
    return {
        "n_harmful": len(harmful.items),
        "n_harmless": len(harmless.items),
        "scored_share": len(kept) / len(items),
        "auroc": rate_json(ranked.auroc),
        "auroc_abstentions_against": auroc(against, labels),
        "average_precision": rate_json(ranked.average_precision),
        "recall_at_fpr": recalls,
        "surface_baselines": {name: None if math.isnan(value) else value for name, value in audit.items()},
    }


@lru_cache(maxsize=16)
def _audit(
    texts: tuple[str, ...], labels: tuple[bool, ...], groups: tuple[str, ...] | None
) -> dict[str, float]:
    # The same for all detectors that score the same rows.
    return confound_audit(texts, labels, groups)


def raw_of(verdict: Verdict) -> float:
    """Raw score of a verdict that has one."""
    if verdict.raw_score is None:
        message = "expected a scored verdict, got an abstention."
        raise ValueError(message)
    return verdict.raw_score


def highest(scored: Scored, count: int) -> list[JsonValue]:
    """The items of the highest raw scores: where they are and what was said, never their text."""
    order = [row for row, one in enumerate(scored.verdicts) if one.raw_score is not None]
    order.sort(key=lambda row: -raw_of(scored.verdicts[row]))
    found: list[JsonValue] = []
    for row in order[:count]:
        one = scored.verdicts[row]
        facts: Json = {
            "path": scored.items[row].origin.path,
            "score": one.score,
            "flagged": one.flagged,
            "category": one.category,
        }
        found.append(facts)
    return found


def _purpose(item: Item) -> str:
    return item.skill.purpose if item.skill is not None else ""
