"""Text cut into tokens, each way once: what all lexical metrics of one text share.

Every published metric brings its own tokenisation, kept here to the letter for text in Latin script. Han and
Kana have no spaces, so there every character is a token, in all of them alike; the published code would drop
them (ROUGE) or take whole sentences for one word.
"""

from __future__ import annotations

import re
import string
from collections import Counter, OrderedDict
from functools import cached_property, lru_cache
from typing import Protocol

Tokens = list[str]


class Stemmer(Protocol):
    """What is used of NLTK's Porter stemmer."""

    def stem(self, word: str) -> str:
        """The stem of a word."""
        ...


class Tokenizer(Protocol):
    """What is used of NLTK's tokenizers of sentences and words."""

    def tokenize(self, text: str) -> list[str]:
        """The parts of a text."""
        ...


_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_ROUGE = re.compile(f"[a-z0-9]+|[{_HAN}]")
_TF_IDF = re.compile(f"[{_HAN}]|(?:(?![{_HAN}])\\w){{2,}}")
_HAN_RUN = re.compile(f"[{_HAN}]|[^{_HAN}]+")
_HAS_HAN = re.compile(f"[{_HAN}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TEXTS = 4_096


class Prepared:
    """One text and its tokens, made when first asked for.

    Args:
        text: As it is.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._ngrams: dict[tuple[str, int], Counter[object]] = {}

    @cached_property
    def rouge(self) -> Tokens:
        """Lower-case letters and digits, as `rouge_score` has them."""
        return _ROUGE.findall(self.text.lower())

    @cached_property
    def rouge_stemmed(self) -> Tokens:
        """The same with words of more than three characters stemmed (Porter)."""
        return _stem_long(self.rouge)

    @cached_property
    def lines(self) -> list[Tokens]:
        """`rouge` of each line that is not empty."""
        return [_ROUGE.findall(line.lower()) for line in self.text.split("\n") if line]

    @cached_property
    def lines_stemmed(self) -> list[Tokens]:
        """`rouge_stemmed` of each line that is not empty."""
        return [_stem_long(line) for line in self.lines]

    @cached_property
    def words(self) -> Tokens:
        """Words and punctuation marks by the rules of NLTK's `word_tokenize`.

        Sentences are found by Punkt without a trained model, which needs no download.
        """
        sentences, words = _nltk_tokenizers()
        found = [token for sentence in sentences.tokenize(self.text) for token in words.tokenize(sentence)]
        if not _HAS_HAN.search(self.text):
            return found
        return [piece for token in found for piece in _HAN_RUN.findall(token)]

    @cached_property
    def lower_words(self) -> Tokens:
        """`words` in lower case."""
        return [word.lower() for word in self.words]

    @cached_property
    def squad(self) -> Tokens:
        """Lower case, without punctuation and articles, as for answers to SQuAD."""
        bare = _ARTICLES.sub(" ", self.text.lower().translate(_NO_PUNCTUATION))
        if not _HAS_HAN.search(bare):
            return bare.split()
        return [piece for token in bare.split() for piece in _HAN_RUN.findall(token)]

    @cached_property
    def tf_idf(self) -> Counter[str]:
        """Counts of lower-case words of two and more characters, as scikit-learn takes them."""
        return Counter(_TF_IDF.findall(self.text.lower()))

    @cached_property
    def characters(self) -> str:
        """Without white space."""
        return "".join(self.text.split())

    def ngrams(self, kind: str, n: int) -> Counter[object]:
        """Counts of n-grams.

        Args:
            kind: `rouge`, `rouge_stemmed`, `words` or `characters`.
            n: Length.
        """
        key = kind, n
        if key not in self._ngrams:
            tokens = getattr(self, kind)
            if n == 1:
                counts: Counter[object] = Counter(tokens)
            elif kind == "characters":
                counts = Counter(tokens[i : i + n] for i in range(len(tokens) - n + 1))
            else:
                counts = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
            self._ngrams[key] = counts
        return self._ngrams[key]


class TextCache:
    """The texts prepared last, by content, so that all metrics of a run share them."""

    def __init__(self, size: int = _TEXTS) -> None:
        self._size = size
        self._kept: OrderedDict[str, Prepared] = OrderedDict()

    def __getitem__(self, text: str) -> Prepared:
        found = self._kept.get(text)
        if found is None:
            found = self._kept[text] = Prepared(text)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(text)
        return found


def stem(word: str) -> str:
    """The Porter stem, remembered: texts repeat their words."""
    return _stem(word)


def _stem_long(tokens: Tokens) -> Tokens:
    return [_stem(token) if len(token) > 3 else token for token in tokens]


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer().stem(word)


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer:
    from nltk.stem.porter import PorterStemmer

    stemmer: Stemmer = PorterStemmer()
    return stemmer


@lru_cache(maxsize=1)
def _nltk_tokenizers() -> tuple[Tokenizer, Tokenizer]:
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer(), NLTKWordTokenizer()
