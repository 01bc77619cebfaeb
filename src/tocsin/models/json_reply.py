"""Strict reading of a chat model's reply that should be one JSON object.

The object stands alone or inside one Markdown code block, and nothing else does. Whatever departs from that
is a named problem, never a value.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal

_CODE_BLOCK = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)


class ReplyError(ValueError):
    """A reply that cannot be used. The message names the kind of problem and quotes nothing."""


def json_object(text: str) -> dict[str, object]:
    """The object of one reply; its numbers are `Decimal`, so that none is rounded or overflows.

    Raises:
        ReplyError: If the reply is not a JSON object, or repeats a key.
    """
    body = text.strip()
    block = _CODE_BLOCK.match(body)
    if block is not None:
        body = block.group(1)
    try:
        reply = json.loads(
            body,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_no_repeats,
        )
    except ReplyError:
        raise
    except (ValueError, RecursionError, ArithmeticError):
        message = "the reply is not JSON"
        raise ReplyError(message) from None
    if not isinstance(reply, dict):
        message = "the reply is JSON but not an object"
        raise ReplyError(message)
    return reply


def _no_constant(_: str) -> object:
    message = "the reply holds NaN or Infinity, which are not JSON"
    raise ReplyError(message)


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        message = "the reply names a key twice"
        raise ReplyError(message)
    return table
