"""Measured effects as records of a level: the pairs that count, intervals, and how far estimates agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tocsin.core.errors import InputError
from tocsin.explain.mediation.components import Component
from tocsin.explain.mediation.estimates import Floats, Measured, Resamples, effects, spearman
from tocsin.explain.mediation.records import Level, LevelName
from tocsin.explain.mediation.settings import MediationSettings
from tocsin.explain.mediation.sweep import ESTIMATED, Swept


class LevelMaker:
    """Makes the records of one study.

    Args:
        settings: Of the study.
        resamples: Of its pairs.
        te: Total effect of every pair, shape (pairs,).
        floor: Pairs with a smaller absolute total effect are left out of averages of ratios.

    Attributes:
        notes: What a reader must know of the levels made so far.
    """

    def __init__(
        self, settings: MediationSettings, resamples: Resamples, te: Floats, *, floor: float
    ) -> None:
        self.settings = settings
        self.resamples = resamples
        self.te = te
        self.floor = floor
        self.notes: list[str] = []

    def swept(self, components: Sequence[Component], swept: Swept) -> list[Level]:
        """Every level among the components that the sweep measured, in their order.

        Raises:
            InputError: If the judge abstained on every pair of a level.
        """
        levels = []
        for name in dict.fromkeys(component.level for component in components):
            chosen = [c for c, each in enumerate(components) if each.level == name]
            measured = Measured(
                self.te, swept.nie[:, chosen], swept.rnie[:, chosen], swept.control[:, chosen]
            )
            levels.append(self.level([components[c] for c in chosen], measured, swept.first[:, chosen]))
        return levels

    def level(
        self, components: Sequence[Component], measured: Measured, first: Floats | None = None
    ) -> Level:
        """The record of one level.

        Args:
            components: All of this level.
            measured: Their effects; NaN where a pair was not patched or the judge abstained.
            first: First-order estimates of both directions, shape (pairs, components, 2), where they were
                made. In the fast mode they take the place of effects.

        Raises:
            InputError: If the judge abstained on every pair.
        """
        name: LevelName = components[0].level
        patched = np.flatnonzero(np.isfinite(measured.nie).all(axis=1))
        agreement, n_agreement, is_estimated = None, 0, False
        if first is not None:
            if len(patched) and np.isfinite(first).all() and self.settings.outcome != "judge":
                agreement = spearman(first[patched, :, 0].mean(axis=0), measured.nie[patched].mean(axis=0))
                n_agreement = len(patched)
            is_estimated = self.settings.fast and name in ESTIMATED
            if is_estimated:
                measured = Measured(measured.te, first[:, :, 0], first[:, :, 1], None)
        measured, lost = _judged(measured)
        if lost:
            self.notes.append(
                f"The judge abstained on {lost} pairs in the level '{name}', which leaves them out."
            )
        return Level(
            name=name,
            effects=effects(components, measured, self.resamples, floor=self.floor),
            is_estimated=is_estimated,
            agreement=agreement,
            n_agreement=n_agreement,
            directions=spearman(measured.nie.mean(axis=0), measured.rnie.mean(axis=0)),
        )


def _judged(measured: Measured) -> tuple[Measured, int]:
    """Pairs on which every effect is known, and how many are not."""
    known = np.isfinite(measured.nie).all(axis=1) & np.isfinite(measured.rnie).all(axis=1)
    if measured.control is not None:
        known &= np.isfinite(measured.control).all(axis=1)
    if not known.any():
        message = "no pair has a known effect for every component: the judge abstained in each. Use another."
        raise InputError(message)
    control = None if measured.control is None else measured.control[known]
    kept = Measured(measured.te[known], measured.nie[known], measured.rnie[known], control)
    return kept, int((~known).sum())
