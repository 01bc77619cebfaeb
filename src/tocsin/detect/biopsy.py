"""`biopsy`: LatentBiopsy (Llorente-Saguer, arXiv 2603.27412), one-class angular anomaly detection.

Fitted on harmless prompts only. By default it reads the chat template at the end of the instruction with
final
punctuation evened out, because in the published setting (raw prompts, last token) "has no final punctuation"
alone
nearly reaches the published figures (card 17, section 10). `template=raw`, `position=inst` and
`normalise=none` give
the published setting. An unusual prompt is not a harmful one: code or rare topics are flagged too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter, ValidationError

from tocsin.core.errors import FitError, ProfileError, UsageError
from tocsin.core.records import Item
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.detect import angles as geometry
from tocsin.detect.activation import Decision, WindowScores
from tocsin.detect.angles import Floats, Mixture, Scorer
from tocsin.detect.fitted import FittedDetector
from tocsin.detect.normalise import ALL_STEPS, Step
from tocsin.detect.profile import Profile
from tocsin.detect.views import TEXT_KINDS
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.internals.layout import Template
from tocsin.models.base import Array

CALIBRATION_SHARE = 0.2
"""Part of the harmless prompts kept out of the fit, for conformal p-values."""
MIN_CALIBRATION = 20
"""Fewer scores cannot give a p-value below 5 %."""
MIN_FIT = 20
TAIL_SHARE = 0.1
"""Part of the calibration scores from which the fall of their tail is told, at least `MIN_TAIL` of them."""
MIN_TAIL = 5
FALSE_ALARM_RATE = 0.05


@dataclass(frozen=True, slots=True)
class BiopsySettings:
    """Options of card 17, section 3, given as `--option biopsy.NAME=VALUE`."""

    layers: tuple[int, ...] | None = None
    """Blocks read, from 0 to L-1; negative counts from the end. Default: one at half depth."""
    layer_source: Literal["fixed", "argmax"] = "fixed"
    """`argmax` when the layer was chosen with harmful prompts, as in the published table."""
    n_directions: int = 1
    """Principal components used, K."""
    n_gmm_components: int = 1
    scorer: Scorer = "gaussian"
    top_d_dims: int | None = None
    """Keep only the features of largest variance before the PCA."""
    n_fit: int | None = None
    """Harmless prompts used for the fit after a seeded shuffle; the paper uses 200. Default: all. The paper's
    search for the smallest sufficient number compares AUROCs and so needs harmful prompts; it is off in the
    published runs and not offered here, since a one-class detector should not see any."""
    template: Template = "chat"
    position: Literal["inst", "post"] = "inst"
    normalise: Literal["all", "none"] = "all"
    harmful_ref: bool = False
    """The supervised variant of section 3.6: direction from harmful prompts, score negated."""

    @classmethod
    def from_options(cls, options: Mapping[str, JsonValue]) -> BiopsySettings:
        """Read and check options.

        Raises:
            UsageError: For an unknown option or a value of the wrong kind.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            message = f"biopsy has no option {', '.join(unknown)}. It has: {', '.join(sorted(known))}."
            raise UsageError(message)
        given = dict(options)
        if isinstance(given.get("layers"), int):
            given["layers"] = [given["layers"]]
        try:
            settings = TypeAdapter(cls).validate_python(given)
        except ValidationError as error:
            first = error.errors()[0]
            message = f"biopsy option {'.'.join(str(place) for place in first['loc'])}: {first['msg']}."
            raise UsageError(message) from error
        counts = (settings.n_directions, settings.n_gmm_components, settings.top_d_dims)
        if any(count is not None and count < 1 for count in counts):
            message = "biopsy needs n_directions, n_gmm_components and top_d_dims of at least 1."
            raise UsageError(message)
        if settings.n_fit is not None and settings.n_fit < 3:
            message = f"biopsy needs n_fit of at least 3, got {settings.n_fit}."
            raise UsageError(message)
        return settings


@detector(
    "biopsy",
    summary="LatentBiopsy: unusual angle of the last hidden state among harmless prompts",
    kinds=TEXT_KINDS,
    languages=("en",),
    cost=Cost.FORWARD_PASS,
    polarity=(
        "flagged = unusual among the harmless prompts it was fitted on; unusual is not the same as harmful"
    ),
    threshold_rule=f"conformal: {FALSE_ALARM_RATE:.0%} of prompts like the harmless ones are flagged",
    card="17 (arXiv 2603.27412)",
    weights_licence="Apache-2.0 (embedded model and profile)",
    fits_on=("harmless",),
)
def biopsy(context: DetectorContext) -> Biopsy:
    """Build the detector."""
    return Biopsy(context)


class Biopsy(FittedDetector):
    """Angles to principal directions of harmless activations (implements `Fittable`)."""

    label_flagged = "unusual"

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup("biopsy").info, context)
        options = context.options.get("biopsy") or {}
        if not isinstance(options, Mapping):
            message = "options for biopsy are a table of names and values."
            raise UsageError(message)
        self._options = options
        self._asked = BiopsySettings.from_options(options)

    @cached_property
    def settings(self) -> BiopsySettings:
        """Options the profile was fitted with; `fit` puts the given ones in their place.

        Raises:
            ProfileError: If an option was given that the profile was not fitted with.
        """
        stored = self.unchecked_profile.facts.get("settings")
        if not isinstance(stored, dict):
            message = "the biopsy profile is damaged: it does not say its settings. Fit it again."
            raise ProfileError(message)
        fitted = BiopsySettings.from_options(stored)
        wanted = BiopsySettings.from_options(stored | dict(self._options))
        wanted = replace(wanted, layers=self._blocks_of(wanted))
        different = [
            field.name
            for field in fields(fitted)
            if getattr(fitted, field.name) != getattr(wanted, field.name)
        ]
        if different:
            message = (
                f"the biopsy profile was fitted with another {', '.join(different)} than the options say. "
                "Leave those options out, or fit a profile with them: "
                "tocsin fit biopsy --harmless FILE --profile DIR"
            )
            raise ProfileError(message)
        return fitted

    @property
    def normalisation(self) -> tuple[Step, ...]:  # type: ignore[override]
        """All steps, or none in the published setting."""
        return ALL_STEPS if self.settings.normalise == "all" else ()

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks read, from 0 to L-1.

        Raises:
            UsageError: If one is out of range.
        """
        return self._blocks_of(self.settings)

    def _blocks_of(self, settings: BiopsySettings) -> tuple[int, ...]:
        blocks = self.model.n_blocks
        asked = settings.layers or (max(0, round(blocks * 0.5) - 1),)
        outside = [layer for layer in asked if not -blocks <= layer < blocks]
        if outside:
            message = (
                f"biopsy layer {outside[0]} is out of range; {self.model.id} has blocks 0 to {blocks - 1} "
                f"(or -{blocks} to -1)."
            )
            raise UsageError(message)
        return tuple(sorted({layer % blocks for layer in asked}))

    @property
    def plan(self) -> CapturePlan:
        """Output of each chosen block at one position."""
        position = Position.INST if self.settings.position == "inst" else Position.POST
        return CapturePlan(tuple(layer + 1 for layer in self.layers), (position,), self.settings.template)

    @property
    def own_threshold(self) -> tuple[float, str]:
        """Threshold on `score` = 1 - conformal p-value."""
        return 1 - FALSE_ALARM_RATE, "conformal"

    def score_windows(self, activations: Activations) -> WindowScores:
        """Anomaly scores with the angles and the polar coordinates of each window."""
        tensors = {name: value.astype(np.float64) for name, value in self.profile.tensors.items()}
        states = self._states(activations)
        theta = _all_angles(states, tensors)
        first = f"directions.{self.plan.rows[0]}"
        phi = geometry.polar_angle(
            _kept(states[0], tensors, self.plan.rows[0]), tensors[first][0], tensors["polar"]
        )
        return WindowScores(_score(theta, tensors, self.settings), {"theta": theta[:, 0], "phi": phi})

    def decide(self, raw: float, windows: int) -> Decision:
        """Correct for the number of windows and take the conformal p-value.

        The tail of the scores falls about as exp(-s / beta) (for one angle the Gaussian score is half a
        chi-square). The chance that any of w harmless windows exceeds s is then that of one window exceeding
        s - beta log w: a shift, where a corrected p-value would run into the resolution of the calibration.
        """
        calibration = self.profile.tensors["calibration"]
        tail = min(max(MIN_TAIL, round(TAIL_SHARE * len(calibration))), len(calibration) - 1)
        beta = float((calibration[-tail:] - calibration[-tail - 1]).mean())
        corrected = raw - beta * float(np.log(windows))
        return Decision(corrected, 1 - conformal_p(corrected, calibration, beta), calibrated=False)

    def fit(self, harmless: Sequence[Item], harmful: Sequence[Item] | None = None) -> Self:
        """Fit directions, angle distribution and conformal calibration.

        Args:
            harmless: Normative prompts; a fifth is kept for calibration.
            harmful: Only for `harmful_ref`, where the direction comes from them.

        Raises:
            FitError: With fewer than 40 readable prompts, or harmful prompts for the one-class form.
        """
        self.settings = replace(self._asked, layers=self._blocks_of(self._asked))
        if (harmful is not None and len(harmful) > 0) != self.settings.harmful_ref:
            message = (
                "biopsy is fitted on harmless prompts only; harmful ones belong to its variant "
                "harmful_ref=true."
            )
            raise FitError(message)
        kept, activations = self.capture_items(harmless, self.plan)
        if len(kept) < MIN_CALIBRATION + MIN_FIT:
            message = (
                f"biopsy needs at least {MIN_CALIBRATION + MIN_FIT} readable harmless prompts, half of "
                f"them for calibration; {len(kept)} of {len(harmless)} could be read. Add more."
            )
            raise FitError(message)
        states = [block.astype(np.float64) for block in self._states(activations)]
        order = np.random.default_rng(self.context.seed).permutation(len(kept))
        held = max(MIN_CALIBRATION, round(CALIBRATION_SHARE * len(kept)))
        calibration, rest = order[:held], order[held:][: self.settings.n_fit]
        reference = [block[rest] for block in states]
        if self.settings.harmful_ref:
            _, others = self.capture_items(harmful or (), self.plan)
            reference = [block.astype(np.float64) for block in self._states(others)]
        tensors = _fit_tensors(states, reference, rest, self.plan.rows, self.settings, self.context.seed)
        theta = _all_angles(states, tensors)
        tensors["calibration"] = np.sort(_score(theta[calibration], tensors, self.settings))
        facts: dict[str, JsonValue] = {
            "n_fit": len(rest),
            "n_calibration": held,
            "left_out": len(harmless) - len(kept),
            "seed": self.context.seed,
            "inputs": [*sorted({item.origin.input_hash[:16] for item in harmless})],
            "settings": asdict(self.settings) | {"layers": [*self.layers]},
        }
        self._fitted = Profile("biopsy", self.version, self.binding, facts, tensors)
        return self

    def _states(self, activations: Activations) -> list[Array]:
        """One array (windows, width) for each row; the last block after the final norm, as published."""
        states = []
        for index, row in enumerate(activations.plan.rows):
            values = activations.values[:, index, 0]
            states.append(self.model.final_norm(values) if row == self.model.n_blocks else values)
        return states


def conformal_p(score: float, calibration: NDArray[np.floating], beta: float) -> float:
    """Conformal p-value without steps, so that a score's last digits never move it by a whole rank.

    At a calibration score it is the usual (1 + number of scores at least as high) / (n + 1), between two of
    them a straight line, and above all of them it falls exponentially to 1 / (n + 1). It is nowhere below
    the usual p-value, whose bound on false alarms therefore holds.

    Args:
        score: Score of a new prompt.
        calibration: Sorted scores of prompts kept out of the fit, shape (n,).
        beta: Scale of the fall above them.
    """
    n = len(calibration)
    values, first = np.unique(calibration, return_index=True)
    ranks = 1 + n - first
    beyond = score - float(values[-1])
    if beyond > 0:
        return max(1.0, float(ranks[-1] * np.exp(-beyond / beta)) if beta > 0 else 0.0) / (n + 1)
    return float(np.interp(score, values, ranks)) / (n + 1)


def _kept(states: Array | Floats, tensors: Mapping[str, Floats], row: int) -> Floats:
    chosen = tensors.get(f"dims.{row}")
    wide = states.astype(np.float64)
    return wide if chosen is None else wide[:, chosen.astype(np.int64)]


def _all_angles(states: Sequence[Array | Floats], tensors: Mapping[str, Floats]) -> Floats:
    rows = sorted(int(name.split(".")[1]) for name in tensors if name.startswith("directions."))
    theta = [
        geometry.angles(_kept(block, tensors, row), tensors[f"directions.{row}"])
        for row, block in zip(rows, states, strict=True)
    ]
    return np.concatenate(theta, axis=1)


def _fit_tensors(
    states: Sequence[Floats],
    reference: Sequence[Floats],
    rest: np.ndarray[tuple[int], np.dtype[np.int64]],
    rows: Sequence[int],
    settings: BiopsySettings,
    seed: int,
) -> dict[str, Floats]:
    tensors: dict[str, Floats] = {}
    for row, block in zip(rows, reference, strict=True):
        if settings.top_d_dims is not None and settings.top_d_dims < block.shape[1]:
            tensors[f"dims.{row}"] = np.sort(np.argsort(-block.var(axis=0))[: settings.top_d_dims]).astype(
                np.float64
            )
        directions = geometry.principal_directions(_kept(block, tensors, row), settings.n_directions)
        tensors[f"directions.{row}"] = directions
    first = _kept(reference[0], tensors, rows[0])
    tensors["polar"] = geometry.polar_basis(first, tensors[f"directions.{rows[0]}"][0])
    fit_theta = _all_angles(
        list(reference) if settings.harmful_ref else [block[rest] for block in states], tensors
    )
    tensors["theta_mean"], tensors["theta_scale"] = (
        fit_theta.mean(axis=0),
        np.maximum(fit_theta.std(axis=0), 1e-9),
    )
    if settings.scorer == "sincos-gmm":
        for name, value in geometry.fit_mixture(fit_theta, settings.n_gmm_components, seed)._asdict().items():
            tensors[f"mixture.{name}"] = value
    if settings.harmful_ref:
        # Section 3.6: closeness to the harmful manifold; signs flip when harmless prompts come out closer.
        tensors["sign"] = np.array([1.0])
        harmless = _score(_all_angles([block[rest] for block in states], tensors), tensors, settings).mean()
        harmful = _score(fit_theta, tensors, settings).mean()
        tensors["sign"] = np.array([-1.0 if harmful < harmless else 1.0])
    return tensors


def _score(theta: Floats, tensors: Mapping[str, Floats], settings: BiopsySettings) -> Floats:
    if settings.scorer == "sincos-gmm":
        parts = [tensors[f"mixture.{name}"] for name in Mixture._fields]
        score = geometry.mixture_score(theta, Mixture(*parts))
    else:
        score = geometry.gaussian_score(theta, tensors["theta_mean"], tensors["theta_scale"])
    sign = tensors.get("sign")
    return score if sign is None else score * sign[0]
