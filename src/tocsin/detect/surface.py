"""`surface`: the baselines of the confound audit, as a detector to compare others with.

It knows nothing about harm. It exists because a published detector's figures can be nearly matched by "has no
final punctuation" (card 17, section 10): a detector worth its cost must do better than this one on the same
items.

Unfitted it applies that rule and nothing else, since no other threshold could be defended without data.
Fitted on labelled items it is a logistic model on final punctuation, question mark, length and first word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.confounds import SurfaceFeatures, group_folds, surface_features
from tocsin.core.errors import FitError, ProfileError
from tocsin.core.records import Abstention, Examined, Item, Kind, Provenance, Reason, Verdict
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.core.stats.intervals import group_codes
from tocsin.detect.profile import Profile, load_profile
from tocsin.detect.shipped import shipped_profile
from tocsin.detect.views import TEXT_KINDS, views_of

NUMBERS = ("no_final_punctuation", "no_question_mark", "log_characters", "log_words")
MAX_FIRST_WORDS = 50
"""First words that get a weight of their own, the most frequent ones."""
MIN_FIRST_WORD_COUNT = 3
MIN_PER_CLASS = 10
UNFITTED_THRESHOLD = 0.5

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@detector(
    "surface",
    summary="Baseline: final punctuation, question mark, length and first word; knows nothing about harm",
    kinds=TEXT_KINDS | {Kind.SKILL},
    cost=Cost.TEXT_ONLY,
    polarity="flagged = looks like the harmful side of a data set on the surface; a baseline, not a finding",
    threshold_rule="unfitted: no final punctuation; fitted: best balanced accuracy on cross-fitted scores",
    card="17 (arXiv 2603.27412), section 10",
    fits_on=("harmless", "harmful"),
)
def surface(context: DetectorContext) -> Surface:
    """Build the detector."""
    return Surface(context)


def examined_text(item: Item, *, deep: bool = False) -> tuple[str, tuple[str, ...]] | Abstention:
    """The text whose surface is looked at, and the parts it is made of; or why there is none.

    Parts of an item (turns of a fine-tuning sample, purpose and body of a skill) are read as one text, in
    order.
    """
    if item.problem is not None:
        return item.problem
    views = views_of(item, deep=deep)
    if isinstance(views, Abstention):
        return views
    text = "\n".join(view.text for view in views)
    if not text.strip():
        return Abstention(reason=Reason.EMPTY, detail="no text")
    return text, tuple(view.part for view in views)


class Surface:
    """Final punctuation alone, or a small logistic model of surface features (implements `Fittable`)."""

    version = "1"

    def __init__(self, context: DetectorContext) -> None:
        self.info = lookup("surface").info
        self.context = context
        self._profile: Profile | None = None
        if context.profile is not None:
            self._profile = load_profile(shipped_profile("surface", context), "surface")
            self._profile.check(BINDING)
            _first_words(self._profile)

    @property
    def threshold(self) -> tuple[float, str]:
        """On the scale of `score`, and where it comes from."""
        if self.context.threshold is not None:
            return self.context.threshold, "command line"
        if self._profile is not None:
            return float(self._profile.tensors["threshold"][0]), "profile"
        return UNFITTED_THRESHOLD, "default"

    @property
    def provenance(self) -> Provenance:
        """How this detector's verdicts come about."""
        threshold, source = self.threshold
        return Provenance(
            detector_version=self.version,
            profile=self._profile.hash if self._profile is not None else None,
            threshold=threshold,
            threshold_source=source,
            seed=self.context.seed,
            settings={"deep": self.context.deep, "fitted": self._profile is not None},
        )

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Everything beside the item that decides a verdict."""
        return {"detector": self.info.name, **self.provenance.model_dump(mode="json")}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order; nothing is held back."""
        provenance = self.provenance
        for item in items:
            yield self._verdict(item, provenance)

    def fit(self, harmless: Sequence[Item], harmful: Sequence[Item] | None = None) -> Self:
        """Fit on items of both classes; twins that share `metadata["pair"]` stay in one fold.

        Raises:
            FitError: If a class has fewer than 10 readable items.
        """
        items = [*(harmful or ()), *harmless]
        read = [examined_text(item, deep=self.context.deep) for item in items]
        kept = [index for index, text in enumerate(read) if not isinstance(text, Abstention)]
        labels = np.array([index < len(harmful or ()) for index in kept], dtype=np.bool_)
        for name, count in (("harmful", int(labels.sum())), ("harmless", int((~labels).sum()))):
            if count < MIN_PER_CLASS:
                message = (
                    f"surface needs at least {MIN_PER_CLASS} {name} items; {count} could be read. Add more."
                )
                raise FitError(message)
        features = [surface_features(text[0]) for text in read if not isinstance(text, Abstention)]
        codes = group_codes(
            [str(items[index].metadata.get("pair", f"row {index}")) for index in kept], len(kept)
        )
        common = Counter(feature.first_word for feature in features if feature.first_word).most_common(
            MAX_FIRST_WORDS
        )
        first_words = sorted(word for word, count in common if count >= MIN_FIRST_WORD_COUNT)
        table = _table(features, first_words)
        threshold, accuracy = _choose_threshold(
            _cross_fitted(table, labels, codes, self.context.seed), labels
        )
        weights, bias = _fit_logistic(table, labels)
        inputs: list[JsonValue] = [*sorted({item.origin.input_hash[:16] for item in items})]
        words: list[JsonValue] = [*first_words]
        facts: dict[str, JsonValue] = {
            "n_harmful": int(labels.sum()),
            "n_harmless": int((~labels).sum()),
            "left_out": len(items) - len(kept),
            "seed": self.context.seed,
            "inputs": inputs,
            "first_words": words,
            "crossfit_balanced_accuracy": accuracy,
        }
        tensors = {"weights": weights, "bias": np.array([bias]), "threshold": np.array([threshold])}
        self._profile = Profile("surface", self.version, BINDING, facts, tensors)
        return self

    def save(self, folder: Path) -> None:
        """Write the fitted profile.

        Raises:
            ProfileError: If nothing was fitted, or the folder holds something else.
        """
        if self._profile is None:
            message = "expected a fitted surface model, got the unfitted rule. Call fit first."
            raise ProfileError(message)
        self._profile.save(folder)

    def _verdict(self, item: Item, provenance: Provenance) -> Verdict:
        found = examined_text(item, deep=self.context.deep)
        if isinstance(found, Abstention):
            return Verdict.abstain(item, self.info.name, provenance, found.reason, found.detail)
        text, parts = found
        features = surface_features(text)
        raw, score = self._score(features)
        threshold, _ = self.threshold
        flagged = score > threshold
        return Verdict(
            key=item.key,
            detector=self.info.name,
            flagged=flagged,
            label=self._label(flagged=flagged),
            score=score,
            calibrated=self._profile is not None,
            raw_score=raw,
            examined=Examined(parts=parts, left_out=item.partial),
            # The first word is examined text, which verdicts do not carry.
            extra={
                "final_punctuation": features.final_punctuation,
                "question_mark": features.question_mark,
                "characters": features.characters,
                "words": features.words,
            },
            provenance=provenance,
        )

    def _score(self, features: SurfaceFeatures) -> tuple[float, float]:
        """Raw score and score: the rule's 0 or 1 twice, or logit and probability."""
        if self._profile is None:
            rule = float(not features.final_punctuation)
            return rule, rule
        tensors = self._profile.tensors
        logit = float(
            (_table([features], _first_words(self._profile)) @ tensors["weights"])[0] + tensors["bias"][0]
        )
        return logit, _sigmoid(logit)

    def _label(self, *, flagged: bool) -> str:
        if self._profile is None:
            return "no final punctuation" if flagged else "final punctuation"
        return "surface of the harmful side" if flagged else "surface of the harmless side"


BINDING: dict[str, JsonValue] = {"features": [*NUMBERS, "first_word"], "normalisation": []}
"""What a profile of this detector must have been fitted on."""


def _first_words(profile: Profile) -> list[str]:
    words = profile.facts.get("first_words")
    if not isinstance(words, list) or len(words) + len(NUMBERS) != profile.tensors["weights"].size:
        message = "expected a surface profile with a weight for each first word, got another. Fit it again."
        raise ProfileError(message)
    return [str(word) for word in words]


def _table(features: Sequence[SurfaceFeatures], first_words: Sequence[str]) -> Floats:
    """Shape (n, 4 + first words): the numbers, as oriented in the audit, then a column for each word."""
    columns = {word: len(NUMBERS) + index for index, word in enumerate(first_words)}
    table = np.zeros((len(features), len(NUMBERS) + len(first_words)))
    for row, feature in zip(table, features, strict=True):
        row[: len(NUMBERS)] = (
            not feature.final_punctuation,
            not feature.question_mark,
            math.log1p(feature.characters),
            math.log1p(feature.words),
        )
        if feature.first_word in columns:
            row[columns[feature.first_word]] = 1
    return table


def _fit_logistic(table: Floats, labels: Flags) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=1_000)
    model.fit(table, labels)
    return np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0])


def _cross_fitted(table: Floats, labels: Flags, codes: NDArray[np.int64], seed: int) -> Floats:
    """Probability of each row from a model that saw neither it nor its twin."""
    out = np.full(len(labels), np.nan)
    for train, test in group_folds(labels, codes, seed=seed):
        if labels[train].all() or not labels[train].any():
            message = (
                "expected items of both classes from several groups, got a class that sits in one group."
            )
            raise FitError(message)
        weights, bias = _fit_logistic(table[train], labels[train])
        out[test] = [_sigmoid(logit) for logit in table[test] @ weights + bias]
    return out


def _choose_threshold(probabilities: Floats, labels: Flags) -> tuple[float, float]:
    """Threshold with the best balanced accuracy, half-way between two scores, and that accuracy."""
    values = np.unique(probabilities)
    cuts = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
    caught = 1 - np.searchsorted(np.sort(probabilities[labels]), cuts, side="right") / labels.sum()
    passed = np.searchsorted(np.sort(probabilities[~labels]), cuts, side="right") / (~labels).sum()
    best = int(np.argmax(caught + passed))
    return float(cuts[best]), float(caught[best] + passed[best]) / 2


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
