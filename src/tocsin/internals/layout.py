"""Where the instruction ends and where the answer would start, for any chat template.

Card 03 (arXiv 2507.11878, section 3.1): a templated prompt is prefix + instruction + template tail. `inst` is the
last token of the instruction, `post` the last token of the whole. The positions are found from character offsets
of the rendered template, never from hard-coded counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn
from tocsin.models.base import ActivationModel

Template = Literal["chat", "raw"]
_SENTINEL = "TOCSIN0SENTINEL0TEXT"


class Position(StrEnum):
    """Token positions whose hidden state can be captured."""

    INST = "inst"
    """Last token of the instruction (t_inst)."""
    POST = "post"
    """Last token of the templated prompt (t_post); equals `inst` without a template."""
    MEAN = "mean"
    """Mean over the instruction's tokens."""


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


class PromptLayout:
    """Builds token sequences for a model's template and knows the positions in them.

    Args:
        model: Gives tokens and template.
        template: `chat` for the model's own chat template, `raw` for the bare text (card 17).
    """

    def __init__(self, model: ActivationModel, template: Template = "chat") -> None:
        self._model = model
        self.template = template
        if template == "raw":
            self.prefix_text, self.tail_text = "", ""
        else:
            self.prefix_text, self.tail_text = self._frame(())
        self.prefix = tuple(model.encode(self.prefix_text).ids)
        self.tail = tuple(model.encode(self.tail_text).ids)

    def _frame(self, context: Sequence[Turn]) -> tuple[str, str]:
        rendered = self._model.render([*context, Turn(role="user", text=_SENTINEL)])
        before, found, after = rendered.partition(_SENTINEL)
        if not found or _SENTINEL in after:
            message = (
                "the model's chat template does not show the user's text exactly once, so the end of the instruction "
                "cannot be found. Use the raw template, or another model."
            )
            raise ModelError(message)
        return before, after

    def build(self, text: str, *, context: Sequence[Turn] = (), with_tail: bool = True) -> PromptTokens:
        """Tokens of one prompt.

        Args:
            text: The instruction. White space at both ends is dropped, as several templates do.
            context: Earlier turns of a chat.
            with_tail: False leaves the template's tail out where `post` is not needed.

        Raises:
            ModelError: If the text is empty.
        """
        text = text.strip()
        if not text:
            message = "an empty text has no last token; expected at least one character."
            raise ModelError(message)
        own = self._model.encode_untrusted(text).ids
        prefix = self.prefix
        lead: list[int] = []
        tail = self.tail
        if context and self.template == "chat":
            before, after = self._frame(context)
            lead, tail = self._model.encode(before).ids, tuple(self._model.encode(after).ids)
            if tuple(lead[: len(prefix)]) == prefix:
                lead = lead[len(prefix) :]
            else:
                prefix = ()
        whole = self._joined(text) if not lead and prefix == self.prefix else None
        if whole is not None:
            return whole if with_tail else whole._replace(ids=whole.ids[: whole.inst + 1])
        ids = [*lead, *own, *(tail if with_tail else ())]
        return PromptTokens(prefix, ids, len(lead), len(lead) + len(own) - 1)

    def _joined(self, text: str) -> PromptTokens | None:
        """Tokens of the whole rendered string where they differ from the pieces put together, else None.

        The pieces are right whenever the template fences the text with special tokens. Elsewhere a tokenizer may
        join characters across the border; a token that covers both instruction and tail counts as tail.
        """
        if self.template == "raw" or not self._needs_joined():
            return None
        encoded = self._model.encode(self.prefix_text + text + self.tail_text)
        start, end = len(self.prefix_text), len(self.prefix_text) + len(text)
        inside = [index for index, (a, b) in enumerate(encoded.offsets) if b > start and b <= end and b > a]
        if not inside:
            message = "the tokenizer joins the whole instruction with the template's tail; its last token cannot be found."
            raise ModelError(message)
        return PromptTokens((), encoded.ids, inside[0], inside[-1])

    def _needs_joined(self) -> bool:
        # Decided once for each template: probes with endings that tokenizers like to merge across a border.
        if not hasattr(self, "_joins"):
            self._joins = False
            for probe in ("a", "Why?", "1.", "word", "x'"):
                pieces = [*self.prefix, *self._model.encode_untrusted(probe).ids, *self.tail]
                if pieces != self._model.encode(self.prefix_text + probe + self.tail_text).ids:
                    self._joins = True
        return self._joins
