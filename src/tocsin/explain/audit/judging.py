"""A registered detector as the judge of an audit (card 02, section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tocsin.core.errors import UsageError
from tocsin.core.records import Item, Kind, Origin
from tocsin.core.registry import Detector, DetectorContext, create, lookup

REFUSAL_JUDGE = "refusal"


class RegisteredJudge:
    """A judge of replies by name, and `refusal` for whether they refuse.

    A judge that opposes harm, such as `refusal`, calls a reply harmful where it does not flag it. Whatever it
    abstains on is unjudged.

    Args:
        name: Of a registered detector that reads responses.
        context: For building it; its model is the judge's own, not the one under audit.

    Raises:
        UsageError: If there is no such detector, or it reads no responses.
    """

    def __init__(self, name: str, context: DetectorContext) -> None:
        info = lookup(name).info
        if Kind.RESPONSE not in info.kinds:
            kinds = ", ".join(sorted(info.kinds))
            message = f"expected a judge of responses, but '{name}' reads {kinds}. Choose another --judge."
            raise UsageError(message)
        self.name = name
        self._context = context
        self._built: dict[str, Detector] = {}

    def harmful(self, prompts: Sequence[str], replies: Sequence[str]) -> list[bool | None]:
        """By the judge."""
        opposes = lookup(self.name).info.opposes_harm
        found = self._flagged(self.name, prompts, replies)
        return [None if flag is None else flag != opposes for flag in found]

    def refused(self, prompts: Sequence[str], replies: Sequence[str]) -> list[bool | None]:
        """By the judge `refusal`, whatever the audit's own is."""
        return self._flagged(REFUSAL_JUDGE, prompts, replies)

    def _flagged(self, name: str, prompts: Sequence[str], replies: Sequence[str]) -> list[bool | None]:
        if name not in self._built:
            self._built[name] = create(name, self._context)
        digest = hashlib.sha256("\0".join(replies).encode("utf-8", "surrogatepass")).hexdigest()
        items = (
            Item(
                kind=Kind.RESPONSE,
                text=reply,
                prompt=prompt,
                origin=Origin(input_hash=digest, ordinal=number, path="replies"),
            )
            for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        )
        return [verdict.flagged for verdict in self._built[name].detect(items)]
