"""Strict reading of the scorer's reply.

A reply is one JSON object from category ids to risks (see `tocsin.models.json_reply`). Whatever departs from
that is a named problem, never a risk of 0.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction

from tocsin.models.json_reply import ReplyError, json_object

# Finer steps are rounding noise; and a number like 1e-999999999 must not be expanded to a fraction.
_STEP = Decimal("1e-9")


def parse_risks(text: str, categories: Collection[str]) -> dict[str, Fraction]:
    """Risks by category from one reply.

    Args:
        text: The reply.
        categories: Ids that the prompt's table offers.

    Raises:
        ReplyError: If the reply is not a JSON object, repeats or invents a category, or gives a risk that is
            not a number from 0 to 1.
    """
    return {category: _risk(category, value, categories) for category, value in json_object(text).items()}


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
