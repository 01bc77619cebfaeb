"""Where the instruction ends and where the answer would start, for any chat template.

Card 03 (arXiv 2507.11878, section 3.1): a templated prompt is prefix + instruction + template tail. `inst` is
the last token of the instruction, `post` the last token of the whole. The positions are found from character
offsets of the rendered template, never from hard-coded counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import takewhile
from typing import Literal, NamedTuple

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn
from tocsin.models.base import ActivationModel, Encoded

Template = Literal["chat", "raw"]

_MARKER = re.compile(r"TOCSIN0TURN(\d+)END")
# Beginnings that tokenizers treat differently after the template's last characters.
_BEGINNINGS = ("a", "A", "1", "(", '"', "é", "你", "🙂")


class Position(StrEnum):
    """Token positions whose hidden state can be captured."""

    INST = "inst"
    """Last token of the instruction (t_inst)."""
    POST = "post"
    """Last token of the templated prompt (t_post); equals `inst` without a template."""
    MEAN = "mean"
    """Mean over the instruction's tokens."""
    TAIL = "tail"
    """Mean over the template's tail, the tokens after the instruction; equals `inst` without a template."""


class PromptTokens(NamedTuple):
    """A tokenised prompt and where its instruction lies."""

    prefix: tuple[int, ...]
    """Constant start, shared by many prompts; may be empty."""
    ids: list[int]
    """Tokens after the prefix."""
    first: int
    """Index in `ids` of the instruction's first token."""
    inst: int
    """Index in `ids` of the instruction's last token."""


class _Part(NamedTuple):
    """A stretch of a rendered conversation."""

    text: str
    is_own: bool = False
    """True for the template's own text, in which special tokens are recognised."""


class PromptLayout:
    """Builds token sequences for a model's template and knows the positions in them.

    The ids are those of the whole rendered string, as the model was trained to see it, with two exceptions:
    special tokens written inside the texts are ordinary characters, and the instruction's last token never
    reaches into the tail (where a tokenizer would join the two, the string is cut between them).

    Args:
        model: Gives tokens and template.
        template: `chat` for the model's own chat template; `raw` for the bare text after the tokenizer's own
            start token, if it has one (card 17).

    Raises:
        ModelError: If the model has no chat template, or one that does not show the user's text exactly once.
    """

    def __init__(self, model: ActivationModel, template: Template = "chat") -> None:
        self._model = model
        self.template = template
        self.prefix: tuple[int, ...] = model.raw_prefix
        """Tokens that start every prompt without earlier turns."""
        if template == "chat":
            (before, after), _ = self._split(["user"])
            self._frame = before, after
            self.prefix = self._common_start()

    def build(self, text: str, *, context: Sequence[Turn] = (), with_tail: bool = True) -> PromptTokens:
        """Tokens of one prompt.

        Args:
            text: The instruction, or a reply where `context` ends with the user's turn. White space at both
                ends is dropped, as several templates do.
            context: Earlier turns of a chat; the raw template leaves them out.
            with_tail: False leaves the template's tail out where only the instruction is read.

        Raises:
            ModelError: If the text is empty or the tokenizer drops all of it, or if the template refuses the
                roles.
        """
        text = text.strip()
        if not text:
            message = (
                "an empty text has no last token; expected at least one character that is not white space."
            )
            raise ModelError(message)
        if self.template == "raw":
            own = self._model.encode_untrusted(text).ids
            return self._checked(PromptTokens(self.prefix, own, 0, len(own) - 1))
        parts = self._parts(text, context)
        tokens = self._in_pieces(parts) if self._hold_special_tokens(parts) else self._as_one(parts)
        ids = tokens.ids if with_tail else tokens.ids[: tokens.inst + 1]
        size = len(self.prefix)
        if tokens.first >= size and tuple(ids[:size]) == self.prefix:
            tokens = PromptTokens(self.prefix, ids[size:], tokens.first - size, tokens.inst - size)
        else:
            tokens = tokens._replace(ids=ids)
        return self._checked(tokens)

    def _common_start(self) -> tuple[int, ...]:
        """Tokens before the instruction that do not depend on how it begins."""
        starts = []
        for beginning in _BEGINNINGS:
            tokens = self._as_one(self._parts(beginning, ()))
            starts.append(tokens.ids[: tokens.first])
        same = (len(set(column)) == 1 for column in zip(*starts, strict=False))
        return tuple(
            token for token, _ in takewhile(lambda pair: pair[1], zip(starts[0], same, strict=False))
        )

    def _parts(self, text: str, context: Sequence[Turn]) -> list[_Part]:
        """Template text and the turns' texts in order, the instruction second to last."""
        if not context:
            before, after = self._frame
            return [_Part(before, is_own=True), _Part(text), _Part(after, is_own=True)]
        # What follows a user's turn is the reply to it.
        role = "assistant" if context[-1].role == "user" else "user"
        turns = [*context, Turn(role=role, text=text)]
        return self._with_context(turns, *self._split([turn.role for turn in turns]))

    def _split(self, roles: Sequence[str]) -> tuple[list[str], list[int]]:
        """The template's text between the turns' texts, and the number of the turn in each gap.

        The template is rendered with a marker for each text, so that nothing written in a text can be
        mistaken for the template's own.
        """
        marked = [Turn(role=role, text=f"TOCSIN0TURN{index}END") for index, role in enumerate(roles)]
        split = _MARKER.split(self._model.render(marked))
        shown = [int(index) for index in split[1::2]]
        last = len(roles) - 1
        if not shown or shown[-1] != last or shown.count(last) != 1:
            message = (
                "the model's chat template does not show the user's text exactly once, so the end of the "
                "instruction cannot be found. Use the raw template, or another model."
            )
            raise ModelError(message)
        return split[::2], shown

    def _with_context(self, turns: list[Turn], own: list[str], shown: list[int]) -> list[_Part]:
        real = self._model.render(turns)
        for texts in ([turn.text for turn in turns], [turn.text.strip() for turn in turns]):
            parts = [_Part(own[0], is_own=True)]
            for index, after in zip(shown, own[1:], strict=True):
                parts += [_Part(texts[index]), _Part(after, is_own=True)]
            if "".join(part.text for part in parts) == real:
                return parts
        # Some templates rewrite earlier turns, for instance drop their reasoning. What they print is taken as
        # it is, unless a turn holds special tokens: those would be taken for the template's own.
        instruction, tail = parts[-2:]
        end = instruction.text + tail.text
        if self._hold_special_tokens(parts) or not real.endswith(end):
            return parts
        return [_Part(real[: len(real) - len(end)], is_own=True), instruction, tail]

    def _hold_special_tokens(self, parts: Sequence[_Part]) -> bool:
        encode, encode_untrusted = self._model.encode, self._model.encode_untrusted
        return any(
            encode(part.text).ids != encode_untrusted(part.text).ids for part in parts if not part.is_own
        )

    def _in_pieces(self, parts: Sequence[_Part]) -> PromptTokens:
        pieces = [
            self._own_ids(part.text, is_first=index == 0, is_last=index == len(parts) - 1)
            if part.is_own
            else self._model.encode_untrusted(part.text).ids
            for index, part in enumerate(parts)
        ]
        first = sum(map(len, pieces[:-2]))
        ids = [token for piece in pieces for token in piece]
        return PromptTokens((), ids, first, first + len(pieces[-2]) - 1)

    def _own_ids(self, text: str, *, is_first: bool, is_last: bool) -> list[int]:
        """Tokens of template text as they are beside a word; alone, white space at its ends may differ."""
        start = 0 if is_first else 1
        end = start + len(text)
        encoded = self._model.encode("a" * start + text + ("" if is_last else "a"))
        low = sum(a < start for a, _ in encoded.offsets)
        high = sum(b <= end for _, b in encoded.offsets)
        joins_start = low > 0 and encoded.offsets[low - 1][1] > start
        joins_end = high < len(encoded.ids) and encoded.offsets[high][0] < end
        return self._model.encode(text).ids if joins_start or joins_end else encoded.ids[low:high]

    def _as_one(self, parts: Sequence[_Part]) -> PromptTokens:
        *before, instruction, tail = (part.text for part in parts)
        start = sum(map(len, before))
        end = start + len(instruction)
        encoded = self._model.encode("".join([*before, instruction, tail]))
        inside = _tokens_between(encoded, start, end)
        ids = encoded.ids
        if inside and encoded.offsets[inside[-1]][1] > end:
            # The tokenizer joins the end of the instruction with the tail: cut there, so that `inst` is the
            # instruction's own and everything after it is the tail.
            encoded = self._model.encode("".join([*before, instruction]))
            inside = _tokens_between(encoded, start, end)
            ids = encoded.ids + self._model.encode(tail).ids
        if not inside:
            return PromptTokens((), ids, 0, -1)
        return PromptTokens((), ids, inside[0], inside[-1])

    def _checked(self, tokens: PromptTokens) -> PromptTokens:
        if tokens.inst < tokens.first:
            message = "the model's tokenizer drops every character of the text, so it has no last token."
            raise ModelError(message)
        return tokens


def _tokens_between(encoded: Encoded, start: int, end: int) -> list[int]:
    """Tokens that cover at least one character from `start` to `end`."""
    return [index for index, (a, b) in enumerate(encoded.offsets) if a < end and b > start]
