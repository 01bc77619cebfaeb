"""METEOR by NLTK, with stems and synonyms remembered.

Synonyms come from the WordNet 3.0 files of Debian's package `wordnet-base` where they are installed; without
them words match by form and stem only, and the result says so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tocsin.judges.lexical.tokens import Prepared, stem
from tocsin.judges.lexical.wordnet import WordNet, installed


def meteor(reference: Prepared, response: Prepared) -> float:
    """METEOR of NLTK (Banerjee and Lavie 2005): alpha 0.9, beta 3, gamma 0.5; from 0 to 1."""
    from nltk.translate.meteor_score import single_meteor_score

    score: float = single_meteor_score(
        reference.lower_words, response.lower_words, stemmer=_STEMMER, wordnet=_synonyms()
    )
    return score


def synonym_source() -> str:
    """Where synonyms come from, for provenance."""
    return "none: WordNet is not installed" if installed() is None else "WordNet 3.0"


class _Stemmer:
    """The part of NLTK's stemmer that `single_meteor_score` calls."""

    def stem(self, word: str) -> str:
        return stem(word)


class _Lemma:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


class _Synset:
    """All synonyms of a word, whatever their senses: METEOR does not tell senses apart."""

    def __init__(self, names: frozenset[str]) -> None:
        self._lemmas = [_Lemma(name) for name in sorted(names)]

    def lemmas(self) -> list[_Lemma]:
        return self._lemmas


class _Synonyms:
    """The part of NLTK's WordNet reader that `single_meteor_score` calls."""

    def __init__(self, wordnet: WordNet | None) -> None:
        self._wordnet = wordnet
        self._kept: dict[str, list[_Synset]] = {}

    def synsets(self, word: str) -> list[_Synset]:
        if self._wordnet is None:
            return []
        found = self._kept.get(word)
        if found is None:
            found = self._kept[word] = [_Synset(self._wordnet.synonyms(word))]
        return found


# NLTK's annotations name its own classes; it calls nothing but the methods above.
_STEMMER: Any = _Stemmer()


@lru_cache(maxsize=1)
def _synonyms() -> Any:  # noqa: ANN401 - see above
    return _Synonyms(installed())
