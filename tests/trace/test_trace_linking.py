"""Which texts are copies."""

from __future__ import annotations

import numpy as np
import pytest

from tocsin.trace.link.clusters import components, guarded
from tocsin.trace.link.link import GUARD, SIMILARITY, near_pairs
from tocsin.trace.link.minhash import BINS, jaccard, signatures
from tocsin.trace.link.normalise import normalise
from tocsin.trace.link.short import short_pairs, within_one_edit


def packed(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    return codes, np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.int64)


def sets(text: str) -> set[str]:
    return {text[place : place + 5] for place in range(len(text) - 4)}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Forwarded: FWD: Hello   World", "hello world"),
        ("see https://example.org/a?b=c now", "see now"),
        ("Ｆｕｌｌ width", "full width"),
        ("नमस्ते 🎉 दुनिया", "नमस्ते दुनिया"),
        ("今天🌞天气\u200b很好", "今天天气很好"),
        ("two\nlines\u2028three", "two lines three"),
        ("https://example.org", ""),
    ],
)
def test_comparison_form(text: str, form: str) -> None:
    assert normalise([text]) == [form]


def test_a_batch_is_read_as_its_texts_one_by_one() -> None:
    texts = ["a\rb", "", "é" + "e\u0301", "Fwd: x", "Ω www.example.org", "\u0301start"]
    assert normalise(texts) == [normalise([text])[0] for text in texts]


def test_jaccard_is_that_of_the_shingle_sets() -> None:
    texts = ["abcdefgh", "abcdefgx", "नमस्ते दुनिया कैसे", "नमस्ते दुनिया कैसा", "abcd"]
    pairs = np.array([[0, 1], [2, 3], [0, 2], [0, 0], [4, 4]])
    # "abcdefgh" has 4 shingles, of which 3 are shared with "abcdefgx": 3 of 5.
    hindi = [sets(texts[2]), sets(texts[3])]
    expected = [3 / 5, len(hindi[0] & hindi[1]) / len(hindi[0] | hindi[1]), 0, 1, 0]
    assert jaccard(*packed(texts), pairs) == pytest.approx(expected)


def test_bins_agree_about_as_often_as_the_jaccard_similarity_says() -> None:
    random = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnop"))
    shares, truths = [], []
    for _ in range(60):
        one = "".join(random.choice(letters, 150))
        place = int(random.integers(20, 130))
        two = one[:place] + "".join(random.choice(letters, 10)) + one[place + 10 :]
        signature = signatures(*packed([one, two]))
        shares.append(np.mean(signature[0] == signature[1]))
        truths.append(len(sets(one) & sets(two)) / len(sets(one) | sets(two)))
    # 60 pairs of 80 bins: a standard error of about sqrt(.8 * .2 / 4800) = 0.006.
    assert signature.shape == (2, BINS)
    assert np.mean(shares) == pytest.approx(np.mean(truths), abs=0.03)


def test_edited_copies_are_found_and_other_texts_are_not() -> None:
    story = "the library stays open until nine on friday and the garden club meets in the small hall"
    other = "tomorrow the swimming pool will be cleaned so please come back on the following weekend"
    texts = [story, story.replace("friday", "fridya"), other, story + " please share"]
    found = near_pairs(*packed(texts), SIMILARITY)
    items = components(found, len(texts))
    assert items.tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("abc", "abc", True), ("abc", "abd", True), ("abc", "abcd", True), ("abc", "bc", True),
     ("abc", "acb", False), ("abc", "ade", False), ("", "a", True), ("ab", "abcd", False)],
)  # fmt: skip
def test_within_one_edit(left: str, right: str, expected: bool) -> None:
    assert within_one_edit(left, right) is expected
    assert within_one_edit(right, left) is expected


def test_every_single_edit_of_a_short_text_is_found() -> None:
    text = "come to the park at noon"
    for place in range(len(text)):
        for edited in (text[:place] + text[place + 1 :], text[:place] + "q" + text[place + 1 :]):
            assert short_pairs({0: text, 1: edited}) == [(0, 1)]


def test_other_numbers_make_another_short_text() -> None:
    assert short_pairs({0: "the bus leaves at 10 30", 1: "the bus leaves at 10 40"}) == []


def test_the_guard_cuts_a_chain() -> None:
    words = [
        "north",
        "south",
        "river",
        "stone",
        "cloud",
        "maple",
        "amber",
        "tiger",
        "ocean",
        "piano",
        "lemon",
        "robin",
    ]
    # Windows of six words that move on by three: neighbours share about half, the ends nothing.
    texts = [" ".join(words[begin : begin + 6]) for begin in (0, 3, 6)]
    chain = np.array([[0, 1], [1, 2]])
    assert components(chain, 3).tolist() == [0, 0, 0]
    texts.append(" ".join(words[:6]))
    items, cut = guarded(
        np.array([[0, 1], [1, 2], [0, 3]]), 4, lambda pairs: jaccard(*packed(texts), pairs) < GUARD
    )
    assert cut == 1
    assert items.tolist() == [0, 0, 2, 0]
