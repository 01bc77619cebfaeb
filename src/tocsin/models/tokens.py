"""Tokenising text of our own, and text from outside, with one tokenizer."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from tokenizers import Tokenizer

from tocsin.models.base import Encoded

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class TextTokenizer:
    """A `tokenizers` tokenizer that can be told not to recognise special tokens.

    Lone surrogates, which are no characters and which no tokenizer reads, count as U+FFFD; offsets stay
    right.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        # Padding and truncation settings of a tokenizer.json would change ids quietly.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        # One tokenizer with a switch, not two: building one takes longer than the rest of the model's
        # start-up.
        self._switch = threading.Lock()

    def encode(self, text: str, *, is_trusted: bool) -> Encoded:
        """Tokens of a text; special tokens written in it are recognised only where it is trusted."""
        with self._switch:
            self._tokenizer.encode_special_tokens = not is_trusted
            encoding = self._tokenizer.encode(_LONE_SURROGATE.sub("\ufffd", text), add_special_tokens=False)
        return Encoded(encoding.ids, encoding.offsets)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        with self._switch:
            return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    @property
    def vocabulary(self) -> dict[str, int]:
        """Tokens and their ids, special ones included."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    @property
    def raw_prefix(self) -> tuple[int, ...]:
        """Special tokens put before a plain text."""
        with self._switch:
            encoding = self._tokenizer.encode("a", add_special_tokens=True)
        first = encoding.special_tokens_mask.index(0)
        return tuple(encoding.ids[:first])
