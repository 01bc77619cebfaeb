"""Strict reading of the scorer's reply.

A reply is one JSON object from category ids to risks, alone or inside one Markdown code block, and nothing
else. Whatever departs from that is a named problem, never a risk of 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction

_CODE_BLOCK = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)
# Finer steps are rounding noise; and a number like 1e-999999999 must not be expanded to a fraction.
_STEP = Decimal("1e-9")


class ReplyError(ValueError):
    """A reply that cannot be used. The message names the kind of problem and quotes nothing."""


def parse_risks(text: str, categories: Collection[str]) -> dict[str, Fraction]:
    """Risks by category from one reply.

    Args:
        text: The reply.
        categories: Ids that the prompt's table offers.

    Raises:
        ReplyError: If the reply is not a JSON object, repeats or invents a category, or gives a risk that is
            not a number from 0 to 1.
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
    return {category: _risk(category, value, categories) for category, value in reply.items()}


def _risk(category: str, value: object, categories: Collection[str]) -> Fraction:
    if category not in categories:
        message = "the reply names a category that is not in the table"
        raise ReplyError(message)
    if not isinstance(value, Decimal):
        message = f"the risk of {category} is not a number"
        raise ReplyError(message)
    if not 0 <= value <= 1:
        message = f"the risk of {category} is outside 0 to 1"
        raise ReplyError(message)
    return Fraction(value.quantize(_STEP))


def _no_constant(_: str) -> object:
    message = "the reply holds NaN or Infinity, which are not JSON"
    raise ReplyError(message)


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        message = "the reply names a category twice"
        raise ReplyError(message)
    return table
