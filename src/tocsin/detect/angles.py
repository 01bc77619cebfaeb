"""The geometry of LatentBiopsy on plain arrays (card 17, arXiv 2603.27412, section 3).

A reference direction is a principal component of harmless activations; a prompt's angle to it is measured
from the origin, not from the mean, as in the paper. Two scorers turn angles into an anomaly score: the
Gaussian of the text and the mixture on (sin, cos) of the released code; they rank alike but their
scales differ (card 17, trap 1).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import FitError

Floats = NDArray[np.float64]
Scorer = Literal["gaussian", "sincos-gmm"]

_LOG_2PI = float(np.log(2 * np.pi))
REGULARISATION = 1e-6
"""Added to the diagonal of mixture covariances, as in the released code."""


class Mixture(NamedTuple):
    """A Gaussian mixture on standardised (sin, cos) features."""

    mean: Floats
    """Shape (features,): mean of the raw features."""
    scale: Floats
    """Shape (features,): their standard deviation."""
    weights: Floats
    """Shape (components,)."""
    centres: Floats
    """Shape (components, features)."""
    precisions: Floats
    """Cholesky factors of the precision matrices, shape (components, features, features)."""


def principal_directions(states: Floats, count: int) -> Floats:
    """The first principal components of centred states.

    Args:
        states: Shape (n, width), n at least 3, finite.
        count: Directions wanted; capped silently at min(count, width, n - 1) as in the released code.

    Returns:
        Unit vectors, shape (directions, width). The sign of each is arbitrary.

    Raises:
        FitError: With fewer than 3 rows, values that are not finite, or a centroid of zero length.
    """
    if states.ndim != 2 or len(states) < 3:
        message = (
            "a reference direction needs at least 3 prompts as an (n, width) array; got shape "
            f"{states.shape}."
        )
        raise FitError(message)
    if not np.isfinite(states).all():
        message = (
            "some activations are not finite numbers; the model is damaged or its number format is too small."
        )
        raise FitError(message)
    if float(np.linalg.norm(states.mean(axis=0))) < 1e-6:
        message = (
            "the harmless activations have a centroid of zero length: angles from the origin mean nothing."
        )
        raise FitError(message)
    centred = states - states.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return axes[: min(count, states.shape[1], len(states) - 1)]


def angles(states: Floats, directions: Floats) -> Floats:
    """Angles to reference directions, in radians between 0 and pi.

    Computed as atan2(|perpendicular|, parallel), which keeps its precision near 0 and pi where arccos loses
    it (card 17, trap 9). A zero state has no direction and gives NaN.

    Args:
        states: Shape (n, width).
        directions: Unit vectors, shape (k, width).

    Returns:
        Shape (n, k).

    Raises:
        ValueError: If the widths differ, as with states of another model.
    """
    if states.ndim != 2 or states.shape[1] != directions.shape[1]:
        message = f"expected states of shape (n, {directions.shape[1]}), got {states.shape}."
        raise ValueError(message)
    along = states @ directions.T
    across = np.stack(
        [
            np.linalg.norm(states - along[:, [k]] * direction, axis=1)
            for k, direction in enumerate(directions)
        ],
        axis=1,
    )
    theta = np.arctan2(across, along)
    theta[~np.any(states, axis=1)] = np.nan
    return np.asarray(theta)


def gaussian_score(theta: Floats, mean: Floats, scale: Floats) -> Floats:
    """Negative log-likelihood under independent normal distributions of the angles, summed over directions.

    s = ((theta - mu0) / sigma0)^2 / 2 + log sigma0 + log(2 pi) / 2, symmetric about mu0 (card 17, section
    3.3).

    Args:
        theta: Shape (n, k).
        mean: Shape (k,).
        scale: Shape (k,), positive.
    """
    z = (theta - mean) / scale
    return np.asarray((0.5 * z**2 + np.log(scale) + 0.5 * _LOG_2PI).sum(axis=1))


def sincos(theta: Floats) -> Floats:
    """Angles as (sin, cos) pairs: shape (n, k) to (n, 2k), all sines first."""
    return np.concatenate([np.sin(theta), np.cos(theta)], axis=1)


def fit_mixture(theta: Floats, components: int, seed: int) -> Mixture:
    """The released code's scorer: full-covariance mixture on standardised (sin, cos) features.

    Args:
        theta: Shape (n, k).
        components: Capped at n.
        seed: Start of the expectation maximisation (5 starts, 200 steps, as released).
    """
    from sklearn.mixture import GaussianMixture

    raw = sincos(theta)
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    scale[scale < 1e-12] = 1.0
    model = GaussianMixture(
        n_components=min(components, len(theta)),
        covariance_type="full",
        reg_covar=REGULARISATION,
        max_iter=200,
        n_init=5,
        random_state=seed,
    ).fit((raw - mean) / scale)
    return Mixture(mean, scale, model.weights_, model.means_, model.precisions_cholesky_)


def mixture_score(theta: Floats, mixture: Mixture) -> Floats:
    """Negative log density of angles under a fitted mixture; equals scikit-learn's `-score_samples`."""
    from scipy.special import logsumexp

    features = (sincos(theta) - mixture.mean) / mixture.scale
    log_parts = []
    for weight, centre, factor in zip(mixture.weights, mixture.centres, mixture.precisions, strict=True):
        white = (features - centre) @ factor
        log_determinant = np.log(np.diag(factor)).sum()
        log_parts.append(
            np.log(weight) + log_determinant - 0.5 * (features.shape[1] * _LOG_2PI + (white**2).sum(axis=1))
        )
    return np.asarray(-logsumexp(np.stack(log_parts), axis=0))


def polar_basis(states: Floats, direction: Floats) -> Floats:
    """Frozen basis of the plane left after removing the reference direction (card 17, section 3.5).

    Returns:
        Shape (3, width): the mean of the residuals, then two unit vectors; zeros where the states have too
        few features to span a plane.
    """
    residual = states - (states @ direction)[:, None] * direction
    mean = residual.mean(axis=0)
    _, _, axes = np.linalg.svd(residual - mean, full_matrices=False)
    basis = np.zeros((3, states.shape[1]))
    basis[0] = mean
    basis[1 : 1 + len(axes[:2])] = axes[:2]
    return basis


def polar_angle(states: Floats, direction: Floats, basis: Floats) -> Floats:
    """Angle phi of states around the reference direction, in radians between -pi and pi; shape (n,)."""
    residual = states - (states @ direction)[:, None] * direction - basis[0]
    return np.asarray(np.arctan2(residual @ basis[2], residual @ basis[1]))
