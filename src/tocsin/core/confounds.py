"""The confound audit: what the surface of a text alone tells about its label.

Public sets of harmful and harmless prompts differ in ways that have nothing to do with harm: on AdvBench
against Alpaca the rule "has no final punctuation" reaches an AUROC of 0.94 with no model at all (measured
from the public sets). Beside every detector's AUROC therefore stand those of single surface features and,
apart from them, of a bag of words.

Orientation is fixed: higher = harmful is *no* final punctuation, *no* question mark, *more* characters,
*more* words. A value far below 0.5 is as much of a confound as one far above. First word and bag of words
learn their orientation from the data, and are therefore scored on texts (whole groups of texts, where groups
are given) they were not fitted on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.bootstrap import composition
from tocsin.core.stats.intervals import group_codes
from tocsin.core.stats.ranking import auroc

SURFACE_BASELINES = ("final_punctuation", "question_mark", "characters", "words", "first_word")
"""The single-feature baselines, in the order of the audit."""
BAG_OF_WORDS = "bag_of_words"
FOLDS = 5
FIRST_WORD_REPEATS = 5
"""Divisions into folds that the first-word baseline is averaged over."""
BAG_CHARACTERS = 20_000
"""Characters of each text that the bag of words reads."""

_FINAL_MARKS = ".?!…。？！｡।؟"
_CLOSERS = "\"'”’»)]}›」』】）"
_QUESTION_MARKS = "?？؟"
# A Chinese or Japanese character counts as a word; elsewhere letters, digits and inner apostrophes make one.
_EAST_ASIAN = r"\u2e80-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_EAST_ASIAN}]|[^\W{_EAST_ASIAN}]+(?:['’][^\W{_EAST_ASIAN}]+)*")

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SurfaceFeatures:
    """What can be said of a text without understanding it."""

    final_punctuation: bool
    """It ends with a full stop, question mark, exclamation mark or ellipsis (before closing quotes)."""
    question_mark: bool
    """It has a question mark anywhere."""
    characters: int
    """Unicode code points without surrounding white space."""
    words: int
    first_word: str
    """In lower case; empty when there is none."""


def surface_features(text: str) -> SurfaceFeatures:
    """Read the features of a text.

    Example:
        >>> surface_features("How do I bake bread?")
        SurfaceFeatures(final_punctuation=True, question_mark=True, characters=20, words=5, first_word='how')
    """
    trimmed = text.strip()
    words = _WORD.findall(trimmed)
    return SurfaceFeatures(
        final_punctuation=trimmed.rstrip(_CLOSERS + " \t\r\n")[-1:] in tuple(_FINAL_MARKS),
        question_mark=any(mark in trimmed for mark in _QUESTION_MARKS),
        characters=len(trimmed),
        words=len(words),
        first_word=words[0].lower() if words else "",
    )


def confound_audit(
    texts: Sequence[str],
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    with_bag_of_words: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """AUROC of each surface baseline at telling the labels apart.

    First word and bag of words are cross-fitted: in each of 5 folds they score texts they were not fitted on,
    and AUROC is taken inside a fold (weighted by its pairs), since scores of two folds come from two fits.
    Texts of one group are never split between folds, so that a text is not scored by a fit that saw its twin.
    Without groups, a learned baseline below 0.5 means that texts were matched on it: give the groups.

    Args:
        texts: The examined texts.
        labels: Shape (n,), true for harmful.
        groups: One value for each text; twins, or texts from one source, share a value.
        with_bag_of_words: Whether to fit the bag of words (about a second for each 5,000 short texts).
        seed: Of the division into folds.

    Returns:
        From 0 to 1 under `final_punctuation`, `question_mark`, `characters`, `words`, `first_word` and
        `bag_of_words`; NaN where a class is missing, or for the learned ones sits in a single group.

    Raises:
        UsageError: If lengths differ.
    """
    flags = np.asarray(labels, dtype=np.bool_)
    if flags.shape != (len(texts),):
        message = f"expected one label for each of {len(texts)} texts, got shape {flags.shape}."
        raise UsageError(message)
    features = [surface_features(text) for text in texts]
    codes = group_codes(groups, len(texts))
    first_words = np.unique([feature.first_word for feature in features], return_inverse=True)[1]
    result = {
        "final_punctuation": auroc([not feature.final_punctuation for feature in features], flags),
        "question_mark": auroc([not feature.question_mark for feature in features], flags),
        "characters": auroc([feature.characters for feature in features], flags),
        "words": auroc([feature.words for feature in features], flags),
        "first_word": _cross_fitted(
            lambda train, test: _first_word_scores(first_words, flags, train)[test],
            flags,
            codes,
            range(seed, seed + FIRST_WORD_REPEATS),
        ),
    }
    if with_bag_of_words:
        result[BAG_OF_WORDS] = _bag_of_words(texts, flags, codes, seed)
    return result


def _cross_fitted(
    score: Callable[[Codes, Codes], Scores], flags: Flags, codes: Codes, seeds: Sequence[int]
) -> float:
    """AUROC inside folds, weighted by the pairs each fold can compare. `score(train, test)` scores `test`."""
    total, weight = 0.0, 0
    for train, test in (fold for seed in seeds for fold in group_folds(flags, codes, seed=seed)):
        positives = int(flags[test].sum())
        pairs = positives * (len(test) - positives)
        if pairs == 0 or flags[train].all() or not flags[train].any():
            continue
        total += pairs * auroc(score(train, test), flags[test])
        weight += pairs
    return total / weight if weight else math.nan


def group_folds(
    flags: Flags, codes: Codes, folds: int = FOLDS, *, seed: int = 0
) -> Iterator[tuple[Codes, Codes]]:
    """Rows to fit on and rows to score, in each fold; groups stay whole and are spread evenly by composition.

    Args:
        flags: Shape (n,), the label of each row.
        codes: Shape (n,), the group of each row, as numbers from 0.
        folds: At most this many; fewer when there are fewer groups, none when there is one.
        seed: Of the random order in which groups are dealt out.
    """
    if len(flags) == 0:
        return
    stratum = composition(codes, flags.astype(np.int64))
    folds = min(folds, len(stratum))
    order = np.random.default_rng(seed).permutation(len(stratum))
    dealt = order[np.argsort(stratum[order], kind="stable")]
    fold_of_group = np.empty(len(stratum), dtype=np.int64)
    fold_of_group[dealt] = np.arange(len(stratum)) % folds
    fold = fold_of_group[codes]
    for index in range(folds if folds > 1 else 0):
        yield np.flatnonzero(fold != index), np.flatnonzero(fold == index)


def _first_word_scores(words: Codes, flags: Flags, train: Codes) -> Scores:
    """Each text's log ratio of its word's share among harmful and harmless training texts; 0 if unseen.

    Shares inside each class make a word that tells nothing score 0 whatever the mix of classes, and one added
    average text a word on each side keeps rare words near 0.
    """
    n_words = int(words.max()) + 1
    harmful = np.bincount(words[train][flags[train]], minlength=n_words)
    harmless = np.bincount(words[train][~flags[train]], minlength=n_words)
    n_harmful, n_harmless = max(1, int(harmful.sum())), max(1, int(harmless.sum()))
    # Smoothing with a share equal to the word's own average share over the classes.
    prior = n_words * (harmful / n_harmful + harmless / n_harmless) / 2
    ratio = np.ones(n_words, dtype=np.float64)
    seen = prior > 0
    shares = [
        (count + prior) / (total + n_words) for count, total in ((harmful, n_harmful), (harmless, n_harmless))
    ]
    ratio[seen] = shares[0][seen] / shares[1][seen]
    # Rounded so that words whose shares are equal tie exactly, whatever the order of the arithmetic.
    return np.asarray(np.round(np.log(ratio), 9)[words], dtype=np.float64)


def _bag_of_words(texts: Sequence[str], flags: Flags, codes: Codes, seed: int) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if not any(_WORD.search(text) for text in texts):
        return 0.5 if flags.any() and not flags.all() else math.nan
    # Vocabulary and document frequencies see no label, so they may come from all texts.
    vectorizer = TfidfVectorizer(tokenizer=_words_of, token_pattern=None, lowercase=False, sublinear_tf=True)
    table = vectorizer.fit_transform([text[:BAG_CHARACTERS] for text in texts])

    def score(train: Codes, test: Codes) -> Scores:
        model = LogisticRegression(class_weight="balanced", solver="liblinear", random_state=0)
        model.fit(table[train], flags[train])
        return np.asarray(model.decision_function(table[test]))

    return _cross_fitted(score, flags, codes, [seed])


def _words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())
