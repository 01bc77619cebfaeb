"""Fitting `refusal` on our own replies; everything is chosen from cross-fitted scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import FitError
from tocsin.detect.refusal.head import DOES, Floats, RefusalHead, numbers_of
from tocsin.internals import Window
from tocsin.sources.reply_set import Reply

FOLDS = 5
SENTENCE_C = 3e-2
REPLY_C = 1.0
WHOLE_WEIGHT = 3.0
"""Weight of a sentence of a reply that was written whole, against one of a reply put together from parts."""


class Sentence(NamedTuple):
    """A sentence of a reply, cut as the detector reads it."""

    text: str
    does: str
    """One of `DOES`: the strongest of the parts that it holds."""
    group: str
    """Pattern or request that most of it comes from."""


def sentence_of(reply: Reply, window: Window, text: str) -> Sentence:
    """What a window of a reply's text does.

    Args:
        reply: In parts.
        window: Characters of `reply.text`; at least one that is not white space.
        text: What the model reads of it.
    """
    start = 0
    held: list[tuple[int, str, str]] = []
    for part in reply.parts:
        end = start + len(part.text)
        shared = min(end, window.end) - max(start, window.start)
        if shared > 0:
            held.append((shared, part.does, part.group))
        start = end + 1
    does = max((each for _, each, _ in held), key=DOES.index)
    return Sentence(text, does, max(held)[2])


def fit_refusal(
    given: Sequence[Reply],
    sentences: Sequence[Sequence[Sentence]],
    features: NDArray[np.float32],
    *,
    seed: int = 0,
) -> tuple[RefusalHead, dict[str, JsonValue]]:
    """Fit sentence and reply read-outs.

    Sentence scores that the reply read-out learns from come from read-outs that saw no sentence of the same
    group, so it learns how sure they are of new ones.

    Args:
        given: Replies.
        sentences: Of each reply, in order.
        features: Their activations, reply after reply, shape (sentences, features).
        seed: Order of the folds.

    Returns:
        The head, and what cross-fitting showed.

    Raises:
        FitError: If a class is missing or an activation is no number.
    """
    flat = [sentence for each in sentences for sentence in each]
    does = np.array([DOES.index(sentence.does) for sentence in flat])
    groups = np.array([sentence.group for sentence in flat])
    if len(flat) != len(features) or not np.isfinite(features).all():
        message = "expected finite activations of every sentence of the replies. Check the model."
        raise FitError(message)
    if len(set(does)) < len(DOES) or {reply.label for reply in given} != {"none", "partial", "full"}:
        message = "expected replies that answer, redirect and refuse, wholly and partly. Add what is missing."
        raise FitError(message)
    weight = np.repeat(
        [WHOLE_WEIGHT if reply.is_whole else 1.0 for reply in given], [len(each) for each in sentences]
    )
    scores = np.zeros((len(flat), len(DOES)))
    for train, test in _folds(groups, seed):
        weights, bias = _logistic(features[train], does[train], SENTENCE_C, weight[train])
        scores[test] = features[test] @ weights.T + bias
    weights, bias = _logistic(features, does, SENTENCE_C, weight)
    ends = np.cumsum([len(each) for each in sentences])
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
    facts = _crossfit_facts(given, numbers, seed)
    facts["n_sentences"] = len(does)
    facts["crossfit_sentence_accuracy"] = float((scores.argmax(axis=1) == does).mean())
    return head, facts


def _crossfit_facts(given: Sequence[Reply], numbers: Floats, seed: int) -> dict[str, JsonValue]:
    labels = np.array([reply.label for reply in given])
    whole = np.array([reply.is_whole for reply in given])
    refused = labels != "none"
    any_logit, full_logit = np.zeros(len(labels)), np.zeros(len(labels))
    for train, test in _folds(np.array([reply.pair for reply in given]), seed):
        weights, bias = _binary(numbers[train], refused[train])
        any_logit[test] = numbers[test] @ weights + bias
        chosen = train[refused[train]]
        weights, bias = _binary(numbers[chosen], labels[chosen] == "full")
        full_logit[test] = numbers[test] @ weights + bias
    called = np.where(any_logit <= 0, "none", np.where(full_logit > 0, "full", "partial"))
    right = (any_logit > 0) == refused
    facts: dict[str, JsonValue] = {
        "n_replies": len(labels),
        "n_whole": int(whole.sum()),
        "crossfit_any_accuracy": float(right.mean()),
        "crossfit_recall": {
            label: float((called[labels == label] == label).mean()) for label in ("none", "partial", "full")
        },
        "sentence_C": SENTENCE_C,
        "whole_weight": WHOLE_WEIGHT,
        "seed": seed,
    }
    if whole.any():
        facts["crossfit_any_accuracy_whole"] = float(right[whole].mean())
    return facts


def _folds(groups: NDArray[np.str_], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import GroupKFold

    return list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(groups, groups=groups))


def _logistic(
    features: NDArray[np.floating],
    classes: NDArray[np.int64],
    strength: float,
    weight: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Weights of shape (classes, features) and biases, standardisation folded in."""
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale < 1e-12] = 1.0
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500, tol=1e-4)
    model.fit((features - mean) / scale, classes, sample_weight=weight)
    weights = model.coef_ / scale
    return weights, model.intercept_ - weights @ mean


def _binary(numbers: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, float]:
    weights, bias = _logistic(numbers, positive.astype(np.int64), REPLY_C)
    return weights[0], float(bias[0])
