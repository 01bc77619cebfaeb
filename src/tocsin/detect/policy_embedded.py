"""`policy-embedded`: which categories of harm a skill or prompt falls under, without any provider.

The offline sibling of `policy` (card 01, arXiv 2604.15415). Two linear heads read the embedded model's
activations:
one says how harmful the declared purpose is, fitted on matched pairs of skill purposes and requests; one
shares that
out over the taxonomy, fitted on the harmful sides alone. The score of a category is the product of both, the
overall
score the first. child-safety has no training pair and is reported as not assessed; the overall flag still
applies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import FitError
from tocsin.core.records import Item, Kind
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.core.taxonomy import CATEGORIES
from tocsin.detect.activation import WindowScores
from tocsin.detect.head_detector import HeadDetector, blocks_at, features_of
from tocsin.detect.linear_head import fit_head
from tocsin.detect.views import TEXT_KINDS
from tocsin.internals import Activations, CapturePlan, Position
from tocsin.models.base import Array

RELATIVE_DEPTHS = (8 / 30, 12 / 30)
"""Shallower than `harmfulness` reads: purposes are long, and on matched purposes 12 blocks do as well as
16."""
POSITIONS = (Position.MEAN,)
CATEGORY_STRENGTH = 1e-3
"""scikit-learn's C of the category head; chosen by cross-validated accuracy on our own harmful rows."""


@detector(
    "policy-embedded",
    summary="Categories of harm of a skill's declared purpose or of a prompt, offline",
    kinds=TEXT_KINDS | {Kind.SKILL},
    languages=("en",),
    cost=Cost.FORWARD_PASS,
    polarity="flagged = the declared purpose (with --deep, or the body) breaks usage policy",
    threshold_rule=(
        "lowest within one standard error of the best balanced accuracy on matched skill purposes, with at "
        "most 5 % of plain purposes flagged (cross-fitted)"
    ),
    card="01 (arXiv 2604.15415), offline sibling",
    weights_licence="Apache-2.0 (embedded model and profile)",
    fits_on=("harmless", "harmful"),
)
def policy_embedded(context: DetectorContext) -> PolicyEmbedded:
    """Build the detector."""
    return PolicyEmbedded(context)


class PolicyEmbedded(HeadDetector):
    """Harm head and category head on hidden states of two blocks (implements `Fittable`)."""

    window_tokens = 256
    """A declared purpose (about 160 tokens in the wild) is read as a whole."""
    window_overlap = 32
    reads_sentences = False
    label_flagged = "policy violation"

    def __init__(self, context: DetectorContext) -> None:
        super().__init__(lookup("policy-embedded").info, context)

    @property
    def plan(self) -> CapturePlan:
        """Two blocks, mean of the text; no token of the template's tail is computed."""
        return CapturePlan(blocks_at(RELATIVE_DEPTHS, self.model.n_blocks), POSITIONS)

    def category_names(self) -> Sequence[str]:
        """Categories with training pairs, in the order of the head's columns."""
        names = self.profile.facts["categories"]
        return [str(name) for name in names] if isinstance(names, list) else []

    def not_assessed(self) -> Sequence[str]:
        """Categories of the taxonomy without a training pair."""
        assessed = set(self.category_names())
        return [category.id for category in CATEGORIES if category.id not in assessed]

    def score_windows(self, activations: Activations) -> WindowScores:
        """Logits of the harm head and shares of the categories."""
        features = features_of(activations)
        tensors = self.profile.tensors
        shares = _softmax(features @ tensors["category_weights"] + tensors["category_bias"])
        return WindowScores(self.head.logits(features), categories=shares)

    def fit(self, harmless: Sequence[Item], harmful: Sequence[Item] | None = None) -> Self:
        """Fit both heads. Harmful items name their category in `metadata["category"]`.

        The threshold is chosen on skills where there are any, else on all items.

        Raises:
            FitError: If a class or the categories are missing.
        """
        items = [*(harmful or ()), *harmless]
        kept, activations = self.capture_items(items, self.plan)
        features = features_of(activations)
        chosen = [items[index] for index in kept]
        labels = np.array([index < len(harmful or ()) for index in kept], dtype=bool)
        groups = [str(item.metadata.get("pair", f"row {index}")) for index, item in enumerate(chosen)]
        plain = np.array([bool(item.metadata.get("plain", False)) for item in chosen], dtype=bool)
        skills = np.array([item.kind is Kind.SKILL for item in chosen], dtype=bool)
        report = fit_head(
            features,
            labels,
            groups,
            plain,
            decide_on=skills if skills.any() else None,
            sensitive=True,
            seed=self.context.seed,
        )
        names, weights, bias, accuracy = _fit_categories(
            features[labels], [item for item, bad in zip(chosen, labels, strict=True) if bad]
        )
        facts: dict[str, JsonValue] = {
            **self.facts_of(items, labels, report),
            "n_skills": int(skills.sum()),
            "categories": list(names),
            "category_accuracy": accuracy,
        }
        return self.use(report.head, facts, {"category_weights": weights, "category_bias": bias})


def _fit_categories(features: Array, harmful: Sequence[Item]) -> tuple[list[str], Array, Array, float | None]:
    """Names, weights of shape (features, categories), bias and cross-validated accuracy of the head.

    The accuracy is None where a category has a single item.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = {category.id for category in CATEGORIES}
    labels = [str(item.metadata.get("category")) for item in harmful]
    wrong = sorted(set(labels) - known)
    if wrong:
        message = (
            f"every harmful item needs a taxonomy id in metadata 'category'; got {wrong[0]!r}. `tocsin "
            "taxonomy` lists them."
        )
        raise FitError(message)
    if len(set(labels)) < 2:
        message = "a category head needs harmful items of at least two categories."
        raise FitError(message)
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=CATEGORY_STRENGTH, class_weight="balanced", max_iter=500)
    )
    folds = min(5, *Counter(labels).values())
    accuracy = float(cross_val_score(model, features, labels, cv=folds).mean()) if folds > 1 else None
    model.fit(features, labels)
    scaler, head = model[0], model[1]
    coefficients, intercepts = head.coef_, head.intercept_
    if len(head.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights = coefficients / scaler.scale_
    bias = intercepts - weights @ scaler.mean_
    return (
        [str(name) for name in head.classes_],
        weights.T.astype(np.float32),
        bias.astype(np.float32),
        accuracy,
    )


def _softmax(logits: Array) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
