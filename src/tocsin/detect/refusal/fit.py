"""Fitting `refusal` on our own replies; everything is chosen from cross-fitted scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import FitError
from tocsin.detect.refusal.head import DOES, Floats, RefusalHead, numbers_of
from tocsin.sources.reply_set import Reply

FOLDS = 5
SENTENCE_C = 3e-3
REPLY_C = 1.0


def fit_refusal(
    given: Sequence[Reply], features: NDArray[np.float32], *, seed: int = 0
) -> tuple[RefusalHead, dict[str, JsonValue]]:
    """Fit sentence and reply read-outs.

    Sentence scores that the reply read-out learns from come from read-outs that saw no sentence of the same
    pattern, so it learns how sure they are of new ones.

    Args:
        given: Replies.
        features: Activations of their parts, reply after reply, shape (parts, features).
        seed: Order of the folds.

    Returns:
        The head, and what cross-fitting showed.

    Raises:
        FitError: If a class is missing or an activation is no number.
    """
    parts = [part for reply in given for part in reply.parts]
    does = np.array([DOES.index(part.does) for part in parts])
    groups = np.array([part.group for part in parts])
    if len(parts) != len(features) or not np.isfinite(features).all():
        message = "expected finite activations of every part of the replies. Check the model."
        raise FitError(message)
    if len(set(does)) < len(DOES) or {reply.label for reply in given} != {"none", "partial", "full"}:
        message = "expected replies that answer, redirect and refuse, wholly and partly. Add what is missing."
        raise FitError(message)
    scores = np.zeros((len(parts), len(DOES)))
    for train, test in _folds(groups, seed):
        weights, bias = _logistic(features[train], does[train], SENTENCE_C)
        scores[test] = features[test] @ weights.T + bias
    weights, bias = _logistic(features, does, SENTENCE_C)
    ends = np.cumsum([len(reply.parts) for reply in given])
    numbers = np.stack(
        [
            numbers_of(scores[a:b, 2] - scores[a:b, 0], scores[a:b, 1] - scores[a:b, 0])
            for a, b in zip([0, *ends[:-1]], ends, strict=True)
        ]
    )
    labels = np.array([reply.label for reply in given])
    refused = labels != "none"
    reply_w, reply_b = _binary(numbers, refused)
    full_w, full_b = _binary(numbers[refused], labels[refused] == "full")
    head = RefusalHead(
        weights.astype(np.float32),
        bias.astype(np.float64),
        reply_w,
        reply_b,
        full_w,
        full_b,
    )
    return head, _crossfit_facts(numbers, labels, does, scores, [reply.pair for reply in given], seed)


def _crossfit_facts(
    numbers: Floats,
    labels: NDArray[np.str_],
    does: NDArray[np.int64],
    scores: Floats,
    pairs: Sequence[str],
    seed: int,
) -> dict[str, JsonValue]:
    refused = labels != "none"
    any_logit, full_logit = np.zeros(len(labels)), np.zeros(len(labels))
    for train, test in _folds(np.array(pairs), seed):
        weights, bias = _binary(numbers[train], refused[train])
        any_logit[test] = numbers[test] @ weights + bias
        chosen = train[refused[train]]
        weights, bias = _binary(numbers[chosen], labels[chosen] == "full")
        full_logit[test] = numbers[test] @ weights + bias
    called = np.where(any_logit <= 0, "none", np.where(full_logit > 0, "full", "partial"))
    return {
        "n_replies": len(labels),
        "n_parts": len(does),
        "crossfit_part_accuracy": float((scores.argmax(axis=1) == does).mean()),
        "crossfit_any_accuracy": float(((any_logit > 0) == refused).mean()),
        "crossfit_recall": {
            label: float((called[labels == label] == label).mean()) for label in ("none", "partial", "full")
        },
        "sentence_C": SENTENCE_C,
        "seed": seed,
    }


def _folds(groups: NDArray[np.str_], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import GroupKFold

    return list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(groups, groups=groups))


def _logistic(
    features: NDArray[np.floating], classes: NDArray[np.int64], strength: float
) -> tuple[Floats, Floats]:
    """Weights of shape (classes, features) and biases, standardisation folded in."""
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale < 1e-12] = 1.0
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500, tol=1e-5)
    model.fit((features - mean) / scale, classes)
    weights = model.coef_ / scale
    return weights, model.intercept_ - weights @ mean


def _binary(numbers: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, float]:
    weights, bias = _logistic(numbers, positive.astype(np.int64), REPLY_C)
    return weights[0], float(bias[0])
