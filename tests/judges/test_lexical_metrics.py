"""Lexical metrics against the libraries they stand for, by hand, and as judges."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.core.records import Item, Kind, Origin, Reason, Verdict
from tocsin.core.registry import DetectorContext, create, detectors
from tocsin.judges.lexical import BASELINES, METRICS
from tocsin.judges.lexical.meteor import meteor
from tocsin.judges.lexical.rouge import common_length, rouge
from tocsin.judges.lexical.tokens import Prepared, TextCache
from tocsin.judges.lexical.wordnet import installed

WORDS = [
    *(
        "the",
        "The",
        "a",
        "an",
        "of",
        "to",
        "cat",
        "cats",
        "running",
        "runs",
        "ran",
        "don't",
        "it's",
        "42",
        "3.5",
    ),
    *("bake", "baked", "baking", "flour,", "water.", "oven!", "(hot)", "café", "rise;", "rising", "U.S."),
    *("well-known", "quickly"),
]
TEXTS = st.lists(st.sampled_from([*WORDS, "\n", ".\n"]), min_size=1, max_size=30).map(" ".join)


def item(text: str, *references: str, kind: Kind = Kind.RESPONSE) -> Item:
    origin = Origin(input_hash="0" * 64, ordinal=0)
    return Item(kind=kind, text=text, prompt="how to bake", references=references, origin=origin)


def verdict_of(name: str, given_item: Item) -> Verdict:
    return next(iter(create(name, DetectorContext()).detect([given_item])))


@given(reference=TEXTS, response=TEXTS, stemmed=st.booleans())
@settings(max_examples=150, deadline=None)
def test_rouge_has_the_numbers_of_rouge_score(reference: str, response: str, stemmed: bool) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    names = {"1": "rouge1", "2": "rouge2", "l": "rougeL", "lsum": "rougeLsum"}
    expected = RougeScorer(list(names.values()), use_stemmer=stemmed).score(reference, response)
    a, b = Prepared(reference), Prepared(response)
    for variant, name in names.items():
        found = rouge(variant, a, b, stemmed=stemmed)
        score = expected[name]
        assert found == pytest.approx((score.precision, score.recall, score.fmeasure), abs=1e-12)


@given(reference=TEXTS, response=TEXTS)
@settings(max_examples=150, deadline=None)
def test_bleu_and_chrf_have_the_numbers_of_nltk_and_sacrebleu(reference: str, response: str) -> None:
    from nltk.translate.bleu_score import sentence_bleu
    from sacrebleu.metrics.chrf import CHRF

    a, b = Prepared(reference), Prepared(response)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NLTK warns of counts of 0
        expected = sentence_bleu([a.words], b.words) if b.words else 0.0
    assert METRICS["bleu"].measure(a, b) == pytest.approx(float(expected), abs=1e-12)
    chrf = CHRF().sentence_score(response, [reference]).score / 100
    assert METRICS["chrf"].measure(a, b) == pytest.approx(chrf, abs=1e-12)


@given(reference=TEXTS, response=TEXTS)
@settings(max_examples=100, deadline=None)
def test_tf_idf_has_the_numbers_of_scikit_learn(reference: str, response: str) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    found = METRICS["tf-idf"].measure(Prepared(reference), Prepared(response))
    try:
        vectors = TfidfVectorizer().fit_transform([reference, response])
    except ValueError:  # no words of two letters in either
        assert found == 0.0
        return
    assert found == pytest.approx(float((vectors[0] @ vectors[1].T).toarray()[0, 0]), abs=1e-12)


class NoSynonyms:
    """NLTK's reader without WordNet."""

    def synsets(self, _word: str) -> Sequence[object]:
        return []


@given(reference=TEXTS, response=TEXTS)
@settings(max_examples=100, deadline=None)
def test_meteor_without_synonyms_has_the_numbers_of_nltk(reference: str, response: str) -> None:
    from nltk.translate.meteor_score import single_meteor_score

    import tocsin.judges.lexical.meteor as room

    a, b = Prepared(reference), Prepared(response)
    expected = single_meteor_score(a.words, b.words, wordnet=NoSynonyms())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_synonyms", NoSynonyms)
        assert meteor(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.skipif(installed() is None, reason="WordNet (Debian package wordnet-base) is not installed")
def test_synonyms_match_in_meteor() -> None:
    wordnet = installed()
    assert wordnet is not None
    assert {"couch", "sofa", "lounge"} <= wordnet.synonyms("sofa")
    assert "run" in wordnet.synonyms("ran")
    assert "goose" in wordnet.synonyms("geese")
    assert wordnet.synonyms("qqzzx") == frozenset()
    # Three of three words match, in one chunk: F-mean 1, penalty 0.5 * (1 / 3) ** 3.
    found = meteor(Prepared("a sofa stands"), Prepared("a couch stands"))
    assert found == pytest.approx(1 - 0.5 * (1 / 3) ** 3)


def test_token_f1_by_hand() -> None:
    # "the" is dropped: {cat, sat} against {cat, ran, home}: one shared, 2 * (1/3) * (1/2) / (5/6) = 0.4.
    f1 = METRICS["token-f1"].measure(Prepared("The cat sat."), Prepared("A cat ran home!"))
    assert f1 == pytest.approx(0.4)


def test_tf_idf_by_hand() -> None:
    # Shared word weighs 1, the others ln 1.5 + 1: 1 / (1 + (ln 1.5 + 1) ** 2).
    cosine = METRICS["tf-idf"].measure(Prepared("bread rises"), Prepared("bread falls"))
    assert cosine == pytest.approx(1 / (1 + (math.log(1.5) + 1) ** 2))


@given(a=st.lists(st.sampled_from("abc"), max_size=12), b=st.lists(st.sampled_from("abc"), max_size=12))
@settings(deadline=None)
def test_common_subsequences_by_the_textbook(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert common_length(a, b) == table[-1][-1]


@pytest.mark.parametrize("name", [*METRICS])
def test_a_response_equal_to_its_reference_scores_highest(name: str) -> None:
    text = "Knead the dough for ten minutes, then let it rise in a warm place."
    same = verdict_of(name, item(text, text))
    other = verdict_of(name, item("I would rather talk about gardens.", text))
    assert same.score is not None
    assert other.score is not None
    assert same.score > 0.99
    assert other.score < 0.4
    assert (same.flagged, other.flagged) == (True, False)


@pytest.mark.parametrize(
    "name", ["rouge-1-recall", "rouge-l-f", "meteor", "bleu", "token-f1", "tf-idf", "chrf"]
)
def test_chinese_is_compared_character_by_character(name: str) -> None:
    reference = "把面粉和水混合,然后揉十分钟。"
    near = verdict_of(name, item("把面粉和水混合,再揉五分钟。", reference)).score
    far = verdict_of(name, item("今天天气晴朗适合散步", reference)).score
    assert near is not None
    assert far is not None
    assert near > 0.3
    assert near > far + 0.2


def test_several_references_are_averaged() -> None:
    a, b, response = "bread and water", "wine", "bread and salt"
    each = [verdict_of("rouge-1-f", item(response, one)).score for one in (a, b)]
    both = verdict_of("rouge-1-f", item(response, a, b)).score
    assert both == pytest.approx(sum(score or 0.0 for score in each) / 2)


def test_what_cannot_be_compared_is_an_abstention() -> None:
    wrong_kind = item("bread", "bread", kind=Kind.PROMPT)
    for given_item, reason in (
        (item("bread"), Reason.MISSING_PART),
        (item(" ", "bread"), Reason.EMPTY),
        (wrong_kind, Reason.UNSUPPORTED_KIND),
    ):
        abstained = verdict_of("rouge-1-f", given_item).abstained
        assert abstained is not None
        assert abstained.reason is reason


def test_length_baselines_need_no_reference() -> None:
    found = verdict_of("words", item("one two three"))
    assert (found.raw_score, found.score, found.flagged) == (3.0, None, False)
    assert verdict_of("characters", item("a" * 200)).flagged


def test_every_metric_is_registered() -> None:
    names = {info.name for info in detectors()}
    assert {*METRICS, *BASELINES} <= names
    assert len([name for name in METRICS if name.startswith("rouge-")]) == 24


def test_the_cache_of_texts_is_bounded() -> None:
    cache = TextCache(size=3)
    first = cache["a"]
    assert cache["a"] is first
    for text in "bcd":
        _ = cache[text]
    assert cache["a"] is not first
