"""The form of a text in which copies are compared.

NFKC, lower case, no URLs, no emoji, no zero-width characters, no "Forwarded:" heads, single spaces.
A whole batch is handled as one string with a line per text: the work is then done in C.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_LINE_ENDS = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
_OTHER_ENDS = re.compile(r"[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_URL = re.compile(r"(?:https?://|www\.)\S+")
# Pictographs, their modifiers, flags, dingbats, variation selectors, zero-width characters. The zero-width
# joiners of Indic scripts go too: copies differ in them, and nothing is shown in this form.
_UNSEEN = re.compile(
    "[\u200b-\u200f\u2060\ufeff\u00ad\ufe00-\ufe0f\u20e3\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
    "\U000e0000-\U000e007f]"
)
_HEAD = re.compile(
    r"(?m)^[ \t>*_]*(?:(?:forwarded|fwd|fw)(?: as received| many times| message)?[ \t]*[:\-]+[ \t]*)+"
)
_SPACES = re.compile(r"[^\S\n]+")


def normalise(texts: Sequence[str]) -> list[str]:
    """Comparison form of every text, in order. A text of URLs and emoji alone becomes empty."""
    if not texts:
        return []
    joined = "\n".join(texts)
    if joined.count("\n") >= len(texts) or _OTHER_ENDS.search(joined):
        joined = "\n".join(_LINE_ENDS.sub(" ", text) for text in texts)
    if not joined.isascii():
        joined = unicodedata.normalize("NFKC", joined)
    joined = joined.lower()
    joined = _URL.sub(" ", joined)
    if not joined.isascii():
        joined = _UNSEEN.sub("", joined)
    joined = _HEAD.sub("", joined)
    joined = _SPACES.sub(" ", joined)
    return [line.strip() for line in joined.split("\n")]
