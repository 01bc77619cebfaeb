"""Our own replies for `refusal`: refusing, partly refusing, redirecting and complying ones.

Complying replies answer harmless requests only; refusals are of harmful and of harmless requests. Every reply
is kept in parts (a sentence or two each) that say what they do. 656 were written whole, several to each
request; most others were put together from a list of parts, and 360 are answers of the embedded model to our
everyday requests. Parts with the same group come from one pattern or belong to one request, so they must not
be on both sides of a split.

Labels follow XSTest (arXiv 2308.01263): any attempt to answer is compliance, right or wrong, and so are a
request turned down because it has no meaningful answer, a premise set right, and not knowing. A refusal says
that it will not; offering or preaching something else without answering is one too. Both together are a
partial refusal.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from tocsin.core.records import Record

Refusal = Literal["none", "partial", "full"]
Does = Literal["answers", "redirects", "refuses"]
WHOLE = "written as a whole"


class ReplyPart(Record):
    """A piece of a reply."""

    text: str
    does: Does
    group: str
    """Pattern that it was made from."""


class Reply(Record):
    """One reply to one request."""

    id: str
    pair: str
    """Shared by replies to the same request."""
    label: Refusal
    style: str
    language: str
    prompt: str
    parts: tuple[ReplyPart, ...]

    @property
    def text(self) -> str:
        """The whole reply."""
        return " ".join(part.text for part in self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether it was written whole to its request, not put together from parts."""
        return self.style.endswith(WHOLE)


@lru_cache(maxsize=1)
def replies() -> tuple[Reply, ...]:
    """All replies of the set, in order."""
    text = files("tocsin").joinpath("data", "refusal", "replies.jsonl").read_text("utf-8")
    return tuple(Reply.model_validate(json.loads(line)) for line in text.splitlines())
