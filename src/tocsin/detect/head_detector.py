"""Detectors that are a calibrated linear head on hidden states of a few blocks, kept in a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

from pydantic import JsonValue

from tocsin.core.errors import ProfileError
from tocsin.core.records import Item
from tocsin.detect.activation import Decision
from tocsin.detect.fitted import FittedDetector
from tocsin.detect.linear_head import Bools, FitReport, LinearHead
from tocsin.detect.profile import Profile
from tocsin.internals import Activations
from tocsin.models.base import Array


def blocks_at(depths: Sequence[float], n_blocks: int) -> tuple[int, ...]:
    """Rows of hidden states at relative depths, each at least 1."""
    return tuple(sorted({max(1, round(depth * n_blocks)) for depth in depths}))


def features_of(activations: Activations) -> Array:
    """Shape (windows, rows * positions * width)."""
    return activations.values.reshape(len(activations.values), -1)


class HeadDetector(FittedDetector):
    """Base of `harmfulness` and `policy-embedded`."""

    @cached_property
    def head(self) -> LinearHead:
        """The head of the profile in use."""
        return head_from(self.profile)

    @property
    def own_threshold(self) -> tuple[float, str]:
        """Threshold on the calibrated probability."""
        return self.head.threshold, "profile"

    def decide(self, raw: float, windows: int) -> Decision:
        """Correct for the number of windows and calibrate."""
        logit = self.head.for_windows(raw, windows)
        return Decision(logit, self.head.probability(logit), calibrated=True)

    def facts_of(self, items: Sequence[Item], labels: Bools, report: FitReport) -> dict[str, JsonValue]:
        """What a profile says of its fit.

        Args:
            items: What was given to the fit.
            labels: True for harmful ones, of the items that could be read.
            report: Of the fit.
        """
        return {
            "n_harmful": int(labels.sum()),
            "n_harmless": int((~labels).sum()),
            "left_out": len(items) - len(labels),
            "seed": self.context.seed,
            "inputs": [*sorted({item.origin.input_hash[:16] for item in items})],
            **report.facts,
            "head": report.head.numbers(),
        }

    def use(self, head: LinearHead, facts: Mapping[str, JsonValue], tensors: Mapping[str, Array]) -> Self:
        """Judge with a head that was just fitted, and keep it as the profile."""
        kept = {"weights": head.weights, **tensors}
        self._fitted = Profile(self.info.name, self.version, self.binding, facts, kept)
        self.head = head
        return self


def head_from(profile: Profile) -> LinearHead:
    """The head kept in a profile.

    Raises:
        ProfileError: If a number is missing or is none.
    """
    numbers = profile.facts.get("head")
    try:
        named = (
            {name: float(str(value)) for name, value in numbers.items()} if isinstance(numbers, dict) else {}
        )
        return LinearHead.from_parts(profile.tensors["weights"], named)
    except (KeyError, TypeError, ValueError) as error:
        message = f"the {profile.detector} profile is damaged: it holds no whole linear head. Fit it again."
        raise ProfileError(message) from error
