"""BLEU, chrF, token F1 and TF-IDF cosine of a response and one reference, each from 0 to 1."""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import TypeVar

from tocsin.judges.lexical.rouge import overlap
from tocsin.judges.lexical.tokens import Prepared

Key = TypeVar("Key")
BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2.0


def bleu(reference: Prepared, response: Prepared) -> float:
    """Sentence BLEU to 4-grams without smoothing, with the numbers of NLTK's `sentence_bleu`.

    A length without any match counts as the smallest positive number, so that the score is nearly, not
    exactly, 0.
    """
    logs = []
    for n in range(1, BLEU_ORDER + 1):
        given = response.ngrams("words", n)
        shared = (given & reference.ngrams("words", n)).total()
        if n == 1 and shared == 0:
            return 0.0
        logs.append(math.log(shared / max(1, given.total())) if shared else math.log(sys.float_info.min))
    size, wanted = len(response.words), len(reference.words)
    brevity = 1.0 if size > wanted else math.exp(1 - wanted / size)
    return brevity * math.exp(math.fsum(log / BLEU_ORDER for log in logs))


def chrf(reference: Prepared, response: Prepared) -> float:
    """chrF2: F-score of character n-grams up to 6 without white space (Popovic 2015), as in sacreBLEU."""
    precision = recall = 0.0
    orders = 0
    for n in range(1, CHRF_ORDER + 1):
        given, wanted = response.ngrams("characters", n), reference.ngrams("characters", n)
        n_given, n_wanted = given.total(), wanted.total()
        if n_given and n_wanted:
            shared = _shared(given, wanted)
            precision += shared / n_given
            recall += shared / n_wanted
            orders += 1
    if not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    weight = CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)


def token_f1(reference: Prepared, response: Prepared) -> float:
    """F1 over bags of normalised words, as for SQuAD answers."""
    shared = _shared(Counter(reference.squad), Counter(response.squad))
    return overlap(shared, len(response.squad), len(reference.squad)).f


def tf_idf_cosine(reference: Prepared, response: Prepared) -> float:
    """Cosine of TF-IDF vectors fitted on just these two texts, with scikit-learn's smooth weights.

    A word in both texts weighs ln(3/3) + 1 = 1, a word in one of them ln(3/2) + 1.
    """
    a, b = reference.tf_idf, response.tf_idf
    both = a.keys() & b.keys()
    product = sum(a[word] * b[word] for word in both)
    if not product:
        return 0.0
    alone = (math.log(1.5) + 1) ** 2
    sizes = [
        sum(count * count * (1.0 if word in both else alone) for word, count in side.items())
        for side in (a, b)
    ]
    return product / math.sqrt(sizes[0] * sizes[1])


def _shared(a: Counter[Key], b: Counter[Key]) -> int:
    small, large = (a, b) if len(a) < len(b) else (b, a)
    get = large.get
    return sum(min(count, get(key, 0)) for key, count in small.items())
