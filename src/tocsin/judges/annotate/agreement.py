"""How well the annotators of a study agree so far, by `tocsin.judges.agreement`."""

from __future__ import annotations

from tocsin.core.errors import UsageError
from tocsin.judges.agreement import Agreement, analyse
from tocsin.judges.agreement.data import Collector
from tocsin.judges.annotate.store import Study

N_RESAMPLES = 1_000


def live_agreement(study: Study, *, n_resamples: int = N_RESAMPLES) -> Agreement | None:
    """Agreement over what has been ranked; None while no two annotators ranked the same item.

    Args:
        study: The study.
        n_resamples: Resamples of items behind the intervals.
    """
    found = Collector(study.models)
    for ranked in study.rankings():
        order = tuple(position - 1 for position in ranked.positions)
        found.add(ranked.annotator, ranked.item, ranked.ranks, group=ranked.group, order=order)
    if not found.ranked:
        return None
    names = tuple(sorted(found.ranked, key=lambda name: (-len(found.ranked[name]), name)))
    try:
        return analyse(found.rankings(names), reference=names[0], n_resamples=n_resamples, seed=0)
    except UsageError:
        return None
