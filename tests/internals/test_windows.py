"""Long text as overlapping token windows."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.internals import Window, split_windows


def word_offsets(text: str) -> list[tuple[int, int]]:
    """One token for each word with the space before it, long words in pieces of four characters."""
    return [
        (start, min(start + 4, match.end()))
        for match in re.finditer(r"\s*\S+|\s+", text)
        for start in range(match.start(), match.end(), 4)
    ]


def test_short_text_is_one_window_over_all_of_it() -> None:
    assert split_windows("  a b ", [(2, 3), (4, 5)], size=2, overlap=1) == [Window(0, 6)]
    assert split_windows("", [], size=2, overlap=1) == [Window(0, 0)]


def test_windows_of_one_character_tokens_by_hand() -> None:
    # Ten tokens, windows of four that share two, no white space: 0-4, 2-6, 4-8, 6-10.
    offsets = [(i, i + 1) for i in range(10)]
    assert split_windows("abcdefghij", offsets, size=4, overlap=2) == [(0, 4), (2, 6), (4, 8), (6, 10)]


def test_borders_fall_between_words() -> None:
    text = " ".join(f"word{i:04}" for i in range(300))
    windows = split_windows(text, word_offsets(text), size=100, overlap=20)
    assert len(windows) > 5
    for window in windows:
        assert re.fullmatch(r"\s*(word\d{4}\s*)+", text[window.start : window.end])


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_sizes_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        split_windows("a b c d e f", word_offsets("a b c d e f"), size, overlap)


@given(
    text=st.text(alphabet="ab \n你", max_size=300),
    size=st.integers(1, 40),
    overlap=st.integers(0, 39),
)
def test_windows_cover_the_text_and_respect_size_and_overlap(text: str, size: int, overlap: int) -> None:
    overlap = min(overlap, size - 1)
    offsets = word_offsets(text)
    windows = split_windows(text, offsets, size, overlap)
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    starts = [start for start, _ in offsets]
    for window in windows:
        assert sum(window.start <= start < window.end for start in starts) <= size
    for before, after in pairwise(windows):
        assert before.start < after.start <= before.end
        assert before.end <= after.end
        assert sum(after.start <= start < before.end for start in starts) >= overlap
