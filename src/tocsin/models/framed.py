"""Tokens of a fixed frame with texts from outside in it.

The frame is a chat format or a classifier's prompt; what stands in it is not trusted. Where no text spells a
control token, the whole is tokenised as one string, as the model was trained to see it. Where one does, the
frame's pieces and the texts are tokenised apart, so that a control token that is spelt in a text stays
ordinary characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn
from tocsin.models.base import Encoded

_MARK = "\ue000tocsin-text-{}\ue001"


class Tokens(Protocol):
    """A tokenizer that can be told to ignore control tokens."""

    @property
    def id(self) -> str:
        """Name of its model."""
        ...

    def encode(self, text: str) -> Encoded:
        """Tokens; control tokens are recognised."""
        ...

    def encode_untrusted(self, text: str) -> Encoded:
        """Tokens; control tokens are ordinary characters."""
        ...


class ChatTokens(Tokens, Protocol):
    """A tokenizer with a chat template."""

    def render(self, turns: Sequence[Turn], *, generation_prompt: bool = True) -> str:
        """The chat template applied to turns."""
        ...


def framed_ids(tokens: Tokens, pieces: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Token ids of `pieces[0] + texts[0] + pieces[1] + ... + pieces[-1]`.

    Args:
        tokens: Of the model.
        pieces: Trusted; one more than texts.
        texts: From outside.
    """
    if len(pieces) != len(texts) + 1:
        message = f"expected one piece more than texts, got {len(pieces)} and {len(texts)}"
        raise ValueError(message)
    if all(tokens.encode(text).ids == tokens.encode_untrusted(text).ids for text in texts):
        middle = (part for pair in zip(texts, pieces[1:], strict=True) for part in pair)
        return tokens.encode("".join([pieces[0], *middle])).ids
    ids = list(tokens.encode(pieces[0]).ids)
    for text, piece in zip(texts, pieces[1:], strict=True):
        ids += tokens.encode_untrusted(text).ids + tokens.encode(piece).ids
    return ids


def chat_pieces(tokens: ChatTokens, roles: Sequence[str]) -> list[str]:
    """What a chat template prints around the texts of turns with these roles.

    Raises:
        ModelError: If there is no template, or it refuses the roles or changes the texts it is given.
    """
    return printed_pieces(tokens.id, tokens.render, roles)


def printed_pieces(name: str, render: Callable[[Sequence[Turn]], str], roles: Sequence[str]) -> list[str]:
    """What `render` prints around the texts of turns with these roles.

    Args:
        name: Of the model, for the error.
        render: A chat template with its options.
        roles: Of the turns, whose texts must be printed once each and in order.

    Raises:
        ModelError: If there is no template, or it refuses the roles or changes the texts it is given.
    """
    marks = [_MARK.format(index) for index in range(len(roles))]
    rest = render([Turn(role=role, text=mark) for role, mark in zip(roles, marks, strict=True)])
    pieces = []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            message = f"the chat template of {name} changes the text it is given, so it cannot be used."
            raise ModelError(message)
        pieces.append(before)
    return [*pieces, rest]
