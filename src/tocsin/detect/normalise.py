"""Text normalisation: part of a detector, recorded in its provenance.

Punctuation and letter case tell data sets apart (card 17, section 10), so activation detectors read text in
which those marks have been evened out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Step = Literal["whitespace", "final-punctuation", "first-letter"]

ALL_STEPS: tuple[Step, ...] = ("whitespace", "final-punctuation", "first-letter")

_SPACE = re.compile(r"\s+")
_FINAL_MARKS = ".?!:;,…。？！ \t\n\r\f\v\u00a0\u3000"


def normalise(text: str, steps: Sequence[Step] = ALL_STEPS) -> str:
    """Apply the steps in order.

    Args:
        text: Any text.
        steps: `whitespace` turns every run of white space into one space and trims the ends;
            `final-punctuation` drops closing marks unless nothing else is left; `first-letter` makes it
            upper case.

    Example:
        >>> normalise("how  do I bake bread?")
        'How do I bake bread'
    """
    for step in steps:
        if step == "whitespace":
            text = _SPACE.sub(" ", text).strip()
        elif step == "final-punctuation":
            text = text.rstrip(_FINAL_MARKS) or text
        else:
            text = text[:1].upper() + text[1:]
    return text
