"""`harmfulness`: does the model believe the request is harmful? A linear head on a few hidden states.

Card 03 (Zhao et al., "LLMs Encode Harmfulness and Refusal Separately", arXiv 2507.11878) reads harmfulness
at the end
of the instruction, apart from refusal at the end of the prompt. The published read-out, two centres and a
cosine over
all layers, is `latent-guard`. This detector is the default: a regularised linear head over chosen blocks and
positions, fitted on matched pairs with final punctuation, case and white space evened out, because those
marks alone
separate the published test sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import FitError, ProfileError
from tocsin.core.records import Item
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.detect.activation import ActivationDetector, Decision, WindowScores
from tocsin.detect.linear_head import LinearHead, fit_head
from tocsin.detect.profile import Profile, load_profile
from tocsin.detect.shipped import shipped_profile
from tocsin.detect.views import TEXT_KINDS
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.models.base import Array

RELATIVE_DEPTHS = (1 / 3, 16 / 30)
"""Blocks read, as shares of the depth: 10 and 16 of the embedded model's 30."""
POSITIONS = (Position.MEAN, Position.TAIL)


def blocks_at(depths: Sequence[float], n_blocks: int) -> tuple[int, ...]:
    """Rows of hidden states at relative depths, each at least 1."""
    return tuple(sorted({max(1, round(depth * n_blocks)) for depth in depths}))


def features_of(activations: Activations) -> Array:
    """Shape (windows, rows * positions * width)."""
    return activations.values.reshape(len(activations.values), -1)


@detector(
    "harmfulness",
    summary="Linear read-out of the model's belief that a request is harmful",
    kinds=TEXT_KINDS,
    languages=("en",),
    cost=Cost.FORWARD_PASS,
    polarity="flagged = the text asks for something harmful",
    threshold_rule=(
        "best balanced accuracy on matched pairs with at most 5 % of plain instructions flagged "
        "(cross-fitted)"
    ),
    card="03 (arXiv 2507.11878)",
    weights_licence="Apache-2.0 (embedded model and profile)",
    fits_on=("harmless", "harmful"),
)
def harmfulness(context: DetectorContext) -> Harmfulness:
    """Build the detector; the shipped profile is used with the embedded model when none is given."""
    return Harmfulness(context)


class Harmfulness(ActivationDetector):
    """Linear head on hidden states of a few blocks (implements `Fittable`)."""

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup("harmfulness").info, context)
        self._fitted: tuple[Profile, LinearHead] | None = None

    @property
    def plan(self) -> CapturePlan:
        """Two blocks, mean of the instruction and mean of the template's tail."""
        return CapturePlan(blocks_at(RELATIVE_DEPTHS, self.model.n_blocks), POSITIONS)

    @cached_property
    def _loaded(self) -> tuple[Profile, LinearHead]:
        folder = shipped_profile("harmfulness", self.context)
        profile = load_profile(folder, "harmfulness")
        profile.check(self.binding, self.version)
        return profile, head_from(profile)

    @property
    def _profile(self) -> Profile:
        return (self._fitted or self._loaded)[0]

    @property
    def _head(self) -> LinearHead:
        return (self._fitted or self._loaded)[1]

    @property
    def profile_hash(self) -> str | None:
        """Hash of the profile in use."""
        return self._profile.hash

    @property
    def threshold(self) -> tuple[float, str]:
        """Threshold on the calibrated probability."""
        if self.context.threshold is not None:
            return self.context.threshold, "command line"
        return self._head.threshold, "profile"

    def score_windows(self, activations: Activations) -> WindowScores:
        """Logits of the head."""
        return WindowScores(self._head.logits(features_of(activations)))

    def decide(self, raw: float, windows: int) -> Decision:
        """Correct for the number of windows and calibrate."""
        logit = self._head.for_windows(raw, windows)
        return Decision(logit, self._head.probability(logit), calibrated=True)

    def fit(self, harmless: Sequence[Item], harmful: Sequence[Item] | None = None) -> Self:
        """Fit on items of both classes; twins that share `metadata["pair"]` stay in one fold.

        Raises:
            FitError: If a class is missing or too small.
        """
        if not harmful:
            message = (
                "harmfulness needs harmful items too: pass --harmful FILE, or use the one-class detector "
                "`biopsy`."
            )
            raise FitError(message)
        profile, head = fit_profile(
            self, [*harmful, *harmless], np.arange(len(harmful) + len(harmless)) < len(harmful)
        )
        self._fitted = profile, head
        return self

    def save(self, folder: Path) -> None:
        """Write the profile in use."""
        self._profile.save(folder)


def fit_profile(
    owner: ActivationDetector, items: Sequence[Item], is_harmful: NDArray[np.bool_]
) -> tuple[Profile, LinearHead]:
    """Fit a head for a detector on labelled items and wrap it as a profile."""
    kept, activations = owner.capture_items(items, owner.plan)
    labels = is_harmful[kept]
    groups = [str(items[index].metadata.get("pair", f"row {index}")) for index in kept]
    plain = np.array([bool(items[index].metadata.get("plain", False)) for index in kept], dtype=bool)
    report = fit_head(features_of(activations), labels, groups, plain, seed=owner.context.seed)
    facts: dict[str, JsonValue] = {
        "n_harmful": int(labels.sum()),
        "n_harmless": int((~labels).sum()),
        "n_plain": int(plain.sum()),
        "left_out": len(items) - len(kept),
        "seed": owner.context.seed,
        "inputs": [*sorted({item.origin.input_hash[:16] for item in items})],
        **report.facts,
        "head": report.head.numbers(),
    }
    tensors = {"weights": report.head.weights}
    return Profile(owner.info.name, owner.version, owner.binding, facts, tensors), report.head


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
