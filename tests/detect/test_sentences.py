"""Long text is cut where sentences end."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from tocsin.detect.sentences import MIN_TOKENS, split_sentences


def words(text: str) -> list[tuple[int, int]]:
    """A tokenizer that takes each word with the space before it."""
    return [match.span() for match in re.finditer(r"\s*\S+", text)]


def cut(text: str, size: int = 20) -> list[str]:
    return [text[w.start : w.end] for w in split_sentences(text, words(text), size, size // 4)]


LONG = "This is a sentence of exactly nine words, look."


def test_each_sentence_and_line_is_a_window() -> None:
    assert cut(f"{LONG} {LONG}\n{LONG}") == [f"{LONG} ", f"{LONG}\n", LONG]


def test_short_pieces_are_read_with_the_next() -> None:
    assert cut(f"Yes. No. {LONG} Fine.") == [f"Yes. No. {LONG} ", "Fine."]


def test_a_long_sentence_is_cut_with_overlap() -> None:
    pieces = cut("word " * 50 + "end.")
    assert len(pieces) > 2
    assert all(len(piece.split()) <= 20 for piece in pieces)


@given(st.text("ab .!?\n", max_size=300), st.integers(MIN_TOKENS, 30))
def test_windows_cover_the_text_in_order_within_the_size(text: str, size: int) -> None:
    offsets = words(text)
    windows = split_sentences(text, offsets, size, size // 4)
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    for left, right in itertools.pairwise(windows):
        assert left.start < right.start <= left.end < right.end + 1
    for window in windows:
        # A token that a border goes through belongs to both sides.
        assert sum(window.start < end and start < window.end for start, end in offsets) <= size + 2
