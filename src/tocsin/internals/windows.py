"""Long text as overlapping token windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_REACH = 16
"""Most tokens by which a border is moved so that it falls between words."""


class Window(NamedTuple):
    """Characters `start` to `end` of a text."""

    start: int
    end: int


def split_windows(text: str, offsets: Sequence[tuple[int, int]], size: int, overlap: int) -> list[Window]:
    """Windows of at most `size` tokens that cover the text and overlap by at least `overlap` tokens.

    A text of up to `size` tokens is one window over all of it. Borders are moved back to the nearest start of
    a word where one is within a few tokens, so that words stay whole; text without white space is cut
    anywhere.

    Args:
        text: The text that was tokenised.
        offsets: First and past-the-last character of each token, in order.
        size: Most tokens of a window, at least 1.
        overlap: Least tokens shared by neighbours, from 0 to size - 1.

    Returns:
        Windows in order. The first starts at 0, the last ends with the text, and none ends before the next
        starts.

    Raises:
        ValueError: If size or overlap is out of range.
    """
    if not 0 <= overlap < size:
        message = f"expected 0 <= overlap < size, got overlap {overlap} and size {size}."
        raise ValueError(message)
    # Small steps leave no room for moving: each window must start after the one before.
    reach = min(_REACH, (size - overlap - 1) // 2)
    windows = []
    first = 0
    while first + size < len(offsets):
        last = _back_to_word(text, offsets, first + size, reach)
        windows.append(Window(_start(offsets, first), _start(offsets, last)))
        first = _back_to_word(text, offsets, last - overlap, reach)
    windows.append(Window(_start(offsets, first), len(text)))
    return windows


def _start(offsets: Sequence[tuple[int, int]], token: int) -> int:
    """First character of a token; 0 for the first, so that nothing before it is left out."""
    return offsets[token][0] if token else 0


def _back_to_word(text: str, offsets: Sequence[tuple[int, int]], token: int, reach: int) -> int:
    """The nearest token at or before `token`, within reach, that starts a word; else `token` itself."""
    for candidate in range(token, token - reach - 1, -1):
        start = offsets[candidate][0]
        if candidate > 0 and (text[start].isspace() or text[start - 1].isspace()):
            return candidate
    return token
