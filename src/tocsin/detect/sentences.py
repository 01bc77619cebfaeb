"""Long text as sentences: the windows in which a request is not diluted by its neighbours.

Detectors are fitted on single requests. A window of a fixed number of tokens mixes several of them, and the
mean over its tokens hides the one that matters; a sentence or line is close to what they were fitted on.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from tocsin.internals import Window, split_windows

MIN_TOKENS = 8
"""A shorter piece is read together with the next one."""

_END = re.compile(r"[.!?;:][\"')\]]?\s+|\n+|[。!?;]")


def split_sentences(text: str, offsets: Sequence[tuple[int, int]], size: int, overlap: int) -> list[Window]:
    """Windows that end where sentences and lines end and together cover the text.

    Args:
        text: The text that was tokenised.
        offsets: First and past-the-last character of each token, in order.
        size: Most tokens of a window; a longer sentence is cut like text without sentences.
        overlap: Tokens shared by neighbouring windows of one long sentence.
    """
    starts = [start for start, _ in offsets]
    ends = [match.end() for match in _END.finditer(text)]
    windows: list[Window] = []
    start = first = 0
    for end in [*(end for end in ends if end < len(text)), len(text)]:
        last = bisect_left(starts, end) if end < len(text) else len(offsets)
        if last - first < MIN_TOKENS and end < len(text):
            continue
        if last - first <= size:
            windows.append(Window(start, end))
        else:
            own = [(max(0, a - start), b - start) for a, b in offsets[first:last]]
            cut = split_windows(text[start:end], own, size, overlap)
            windows += [Window(start + window.start, start + window.end) for window in cut]
        start, first = end, last
    return windows
