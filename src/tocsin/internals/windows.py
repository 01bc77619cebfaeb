"""Long text as overlapping token windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """Characters `start` to `end` of a text."""

    start: int
    end: int


def split_windows(text: str, offsets: Sequence[tuple[int, int]], size: int, overlap: int) -> list[Window]:
    """Windows of at most `size` tokens that cover the text and overlap by `overlap` tokens.

    A text of up to `size` tokens is one window over all of it. Window borders are moved back to white space where
    that is close by, so that words stay whole.

    Args:
        text: The text that was tokenised.
        offsets: First and past-the-last character of each token.
        size: Tokens of a window, at least 2.
        overlap: Tokens shared by neighbours, from 0 to size - 1.
    """
    if len(offsets) <= size:
        return [Window(0, len(text))]
    windows = []
    first = 0
    while True:
        last = min(first + size, len(offsets))
        start, end = offsets[first][0], offsets[last - 1][1]
        if first > 0:
            start = _to_space(text, start)
        windows.append(Window(start, end))
        if last == len(offsets):
            return windows
        first += size - overlap


def _to_space(text: str, at: int, reach: int = 24) -> int:
    for index in range(at, max(0, at - reach), -1):
        if text[index - 1].isspace():
            return index
    return at
