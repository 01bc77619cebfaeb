"""`latent-guard`: card 03's Latent Guard as published (arXiv 2507.11878, sections 3.4 and 3.7).

    Delta(x) = mean over rows l of  cos(h_l, mu_l_harmful) - cos(h_l, mu_l_harmless)        at t_inst
    harmful  iff  Delta > threshold (0 as published)

Row 0, the token embedding, is left out by default: it sees only the last token (card 03, section 10). Models
that
refuse can be given two more centres, of refused and accepted prompts at t_post; the verdict then carries
both beliefs
as coordinates of the (harmfulness, refusal) plane. The embedded model hardly ever refuses, so its profile
has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import FitError
from tocsin.core.records import Item
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.detect.activation import Decision, WindowScores
from tocsin.detect.fitted import FittedDetector
from tocsin.detect.profile import Profile
from tocsin.detect.views import TEXT_KINDS
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.models.base import Array

PUBLISHED_THRESHOLD = 0.0


def belief(states: Array, positive: Array, negative: Array) -> NDArray[np.float64]:
    """Mean over rows of the difference of two cosines (card 03, equation for Delta).

    Args:
        states: Shape (n, rows, width).
        positive: Centre of the one cluster, shape (rows, width).
        negative: Centre of the other, same shape.

    Returns:
        Shape (n,), in [-2, 2]. A zero vector has no direction and counts as cosine 0. Swapping the centres
        negates
        the result; rescaling a state by a positive factor leaves it.
    """
    return np.asarray((_cosine(states, positive) - _cosine(states, negative)).mean(axis=1), dtype=np.float64)


def _cosine(states: Array, centre: Array) -> NDArray[np.float64]:
    wide, one = states.astype(np.float64), centre.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1) * np.linalg.norm(one, axis=-1)
    dots = np.einsum("nrd,rd->nr", wide, one)
    cosine: NDArray[np.float64] = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return cosine


@detector(
    "latent-guard",
    summary="Latent Guard as published: cosine to two centres at the end of the instruction, over all layers",
    kinds=TEXT_KINDS,
    languages=("en",),
    cost=Cost.FORWARD_PASS,
    polarity="flagged = closer to the centre of harmful prompts than to that of harmless ones",
    threshold_rule="0, as published (not calibrated)",
    card="03 (arXiv 2507.11878)",
    weights_licence="Apache-2.0 (embedded model and profile)",
    fits_on=("harmless", "harmful"),
)
def latent_guard(context: DetectorContext) -> LatentGuard:
    """Build the detector."""
    return LatentGuard(context)


class LatentGuard(FittedDetector):
    """Two centres for each row at t_inst (implements `Fittable`)."""

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup("latent-guard").info, context)

    @property
    def plan(self) -> CapturePlan:
        """Every row but the embedding; the end of the prompt only where the profile has refusal centres."""
        return self._plan(reads_refusal="refused" in self._unchecked.tensors)

    def _plan(self, *, reads_refusal: bool) -> CapturePlan:
        positions = (Position.INST, Position.POST) if reads_refusal else (Position.INST,)
        return CapturePlan(tuple(range(1, self.model.n_blocks + 1)), positions)

    @property
    def _unchecked(self) -> Profile:
        # The plan, which a profile is checked against, itself depends on which centres the profile has.
        return self._fitted or self.unchecked_profile

    @property
    def own_threshold(self) -> tuple[float, str]:
        """0 on Delta, which is 0.5 on `score` = (Delta + 2) / 4."""
        return (PUBLISHED_THRESHOLD + 2) / 4, "published"

    def score_windows(self, activations: Activations) -> WindowScores:
        """Delta of each window."""
        centres = self.profile.tensors
        states = activations.values[:, :, activations.plan.positions.index(Position.INST)]
        delta = belief(states, centres["harmful"], centres["harmless"])
        extra = {"harmfulness_belief": delta}
        if "refused" in centres:
            ends = activations.values[:, :, activations.plan.positions.index(Position.POST)]
            extra["refusal_belief"] = belief(ends, centres["refused"], centres["accepted"])
        return WindowScores(delta, extra)

    def decide(self, raw: float, windows: int) -> Decision:  # noqa: ARG002 - the published form knows one window only
        """Map [-2, 2] to [0, 1]; not calibrated, and not corrected for length."""
        return Decision(raw, float(np.clip((raw + 2) / 4, 0, 1)), calibrated=False)

    def fit(
        self,
        harmless: Sequence[Item],
        harmful: Sequence[Item] | None = None,
        *,
        refused: Sequence[Item] | None = None,
        accepted: Sequence[Item] | None = None,
    ) -> Self:
        """Take the mean of each cluster: both classes at t_inst; refused and accepted prompts at t_post.

        Raises:
            FitError: If a cluster has no readable item, or only one of `refused` and `accepted` is given.
        """
        if (refused is None) != (accepted is None):
            message = (
                "the refusal belief needs both refused and accepted prompts; only one of them was given."
            )
            raise FitError(message)
        rows = self._plan(reads_refusal=False).rows
        wanted = [("harmful", harmful or (), Position.INST), ("harmless", harmless, Position.INST)]
        if refused is not None and accepted is not None:
            wanted += [("refused", refused, Position.POST), ("accepted", accepted, Position.POST)]
        tensors: dict[str, Array] = {}
        facts: dict[str, JsonValue] = {}
        for name, items, position in wanted:
            kept, activations = self.capture_items(items, CapturePlan(rows, (position,)))
            if not kept:
                message = (
                    f"latent-guard needs at least one readable {name} item; none of {len(items)} could be "
                    "read."
                )
                raise FitError(message)
            tensors[name] = activations.values[:, :, 0].mean(axis=0)
            if not np.isfinite(tensors[name]).all():
                message = (
                    f"some activations of {name} items are not finite numbers; the model is damaged or its "
                    "number format is too small."
                )
                raise FitError(message)
            facts[f"n_{name}"] = len(kept)
        self._fitted = Profile("latent-guard", self.version, {}, facts, tensors)
        self._fitted = Profile("latent-guard", self.version, self.binding, facts, tensors)
        return self
