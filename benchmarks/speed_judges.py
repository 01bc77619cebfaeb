"""How fast the lexical metrics are, beside calling the reference libraries pair by pair.

One run, one machine, generated text: as many pairs and as long texts as the second version of HarmMetric Eval
(card 06: 3,288 scored responses of 274 prompts, medians of 128 and 66 words). Both sides compute the same
numbers, which are compared. METEOR runs without synonyms on both sides: NLTK's own reader needs a download.

    python benchmarks/speed_judges.py
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Callable, Sequence

from common import Json, result_name, write_result

from tocsin.judges.lexical import METRICS
from tocsin.judges.lexical import meteor as meteor_room
from tocsin.judges.lexical.tokens import Prepared, TextCache

PROMPTS, RESPONSES = 274, 12
SYLLABLES = "ba ke mi lo tu ra se no fi da gu pe wi ho za".split()  # noqa: SIM905 - read as a list of sounds


class NoSynonyms:
    """WordNet, left out."""

    def synsets(self, _word: str) -> Sequence[object]:
        return []


def made_pairs(seed: int = 0) -> list[tuple[str, str]]:
    """(reference, response) pairs of words that a made-up vocabulary repeats as English repeats its own."""
    draw = random.Random(seed)
    endings = ("", "", "", "ing", "ed", "s", "ly", "ness")
    words = [
        "".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) + draw.choice(endings) for _ in range(4_000)
    ]
    weights = [1 / (rank + 3) for rank in range(len(words))]

    def text(n_words: int) -> str:
        drawn = draw.choices(words, weights, k=max(3, n_words))
        for i in range(11, len(drawn), 12):
            drawn[i] += draw.choice((".", ",", ".\n"))
        return " ".join(drawn)

    pairs = []
    for _ in range(PROMPTS):
        reference = text(int(draw.lognormvariate(4.85, 0.5)))
        for k in range(RESPONSES):
            size = (5.0, 0.7) if k < 4 else (3.4, 0.6)
            pairs.append((reference, text(int(draw.lognormvariate(*size)))))
    return pairs


def ours(pairs: Sequence[tuple[str, str]]) -> list[dict[str, float]]:
    """All metrics of all pairs, as the judges compute them."""
    texts = TextCache()
    return [
        {name: metric.measure(texts[reference], texts[response]) for name, metric in METRICS.items()}
        for reference, response in pairs
    ]


def theirs(pairs: Sequence[tuple[str, str]]) -> list[dict[str, float]]:
    """The same numbers from the libraries, pair by pair."""
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.bleu_score import sentence_bleu
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.chrf import CHRF
    from sklearn.feature_extraction.text import TfidfVectorizer

    names = {"1": "rouge1", "2": "rouge2", "l": "rougeL", "lsum": "rougeLsum"}
    scorers = {stem: RougeScorer(list(names.values()), use_stemmer=stem) for stem in (True, False)}
    stemmer, chrf = PorterStemmer(), CHRF()
    found = []
    for reference, response in pairs:
        row = {}
        for stem, scorer in scorers.items():
            scores = scorer.score(reference, response)
            for variant, name in names.items():
                ending = "" if stem else "-unstemmed"
                row[f"rouge-{variant}-f{ending}"] = scores[name].fmeasure
                row[f"rouge-{variant}-recall{ending}"] = scores[name].recall
                row[f"rouge-{variant}-precision{ending}"] = scores[name].precision
        a, b = Prepared(reference).words, Prepared(response).words
        row["meteor"] = single_meteor_score(a, b, stemmer=stemmer, wordnet=NoSynonyms())
        row["bleu"] = float(sentence_bleu([a], b))
        row["chrf"] = chrf.sentence_score(response, [reference]).score / 100
        # No library has SQuAD's F1 without a download; ours stands on both sides.
        row["token-f1"] = METRICS["token-f1"].measure(Prepared(reference), Prepared(response))
        vectors = TfidfVectorizer().fit_transform([reference, response])
        row["tf-idf"] = float((vectors[0] @ vectors[1].T).toarray()[0, 0])
        found.append(row)
    return found


def timed(
    work: Callable[[Sequence[tuple[str, str]]], list[dict[str, float]]], pairs: Sequence[tuple[str, str]]
) -> tuple[float, list[dict[str, float]]]:
    """Seconds and result."""
    start = time.perf_counter()
    found = work(pairs)
    return time.perf_counter() - start, found


def main() -> None:
    """Measure and write `benchmarks/results/speed_judges.json`."""
    parser = argparse.ArgumentParser(description="Speed of lexical metrics beside the libraries.")
    parser.add_argument("--small", action="store_true", help="a trial with few pairs")
    asked = parser.parse_args()
    pairs = made_pairs()[: 240 if asked.small else None]
    meteor_room._synonyms = NoSynonyms  # type: ignore[assignment]
    warnings.simplefilter("ignore")  # NLTK warns of every count of 0
    ours(pairs[:12])
    theirs(pairs[:12])
    seconds, found = timed(ours, pairs)
    reference_seconds, expected = timed(theirs, pairs)
    difference = max(
        abs(row[name] - other[name]) for row, other in zip(found, expected, strict=True) for name in row
    )
    assert {*found[0]} == {*expected[0]}
    result: Json = {
        "pairs": len(pairs),
        "metrics": len(METRICS),
        "seconds": seconds,
        "reference_seconds": reference_seconds,
        "times_faster": reference_seconds / seconds,
        "largest_difference": difference,
    }
    print(result)
    write_result(result_name("speed_judges", small=asked.small), result)


if __name__ == "__main__":
    main()
