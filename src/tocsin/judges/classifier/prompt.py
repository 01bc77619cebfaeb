"""The question put to the model, and the place at which its answer is read.

HarmJudge's text without its third answer (arXiv 2509.24384), in the model's chat template. Request and
response are one line of JSON between two marker lines. The marker is always the same, so that an adapter
gives the same verdict on every machine, and most of the prompt is the same tokens for all items; line breaks
and control tokens in a text are written as escapes, so no text can write the line that closes the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from tocsin.core.errors import ModelError
from tocsin.judges.prompted.wording import HARMJUDGE_QUESTIONS, QUESTION, harmjudge_system
from tocsin.models.fence import quote
from tocsin.models.framed import chat_pieces, framed_ids
from tocsin.models.local import LocalModel

SYSTEM = harmjudge_system(0, with_uncertain=False)
ASKED = HARMJUDGE_QUESTIONS[0]
MARKER = "-----"
FORM = "Answer with one word: {yes} or {no}."
_ROLES: tuple[tuple[str, ...], ...] = (("system", "user"), ("user",))
PROMPT_HASH = hashlib.sha256("\0".join((SYSTEM, ASKED, QUESTION, MARKER, FORM)).encode()).hexdigest()[:12]


class Fitted(NamedTuple):
    """A prompt that fits."""

    ids: list[int]
    """The next token is the answer's first."""
    is_cut: bool
    """Whether the end of the response was left out."""


class AnswerPrompt:
    """Prompts of one model.

    Args:
        model: Gives template and tokens.
        answers: Words for Yes and No.
        max_tokens: Longest prompt.

    Raises:
        ModelError: If there is no chat template, or the two answers do not differ in their first token.
    """

    def __init__(self, model: LocalModel, *, answers: tuple[str, str], max_tokens: int) -> None:
        self._model = model
        self._form = FORM.format(yes=answers[0], no=answers[1])
        self.limit = min(max_tokens, model.context)
        self.roles, self._pieces = _layout(model)
        self.yes, self.no = (self._first_token(answer) for answer in answers)
        if self.yes == self.no:
            message = (
                f"the first tokens of '{answers[0]}' and '{answers[1]}' are the same in {model.id}. Choose "
                "other answers."
            )
            raise ModelError(message)

    def encode(self, request: str, response: str) -> list[int]:
        """Tokens up to the answer, however long."""
        return self._ids(request, response, self._pieces)

    def fit(self, request: str, response: str) -> Fitted | None:
        """Tokens up to the answer, with the response's end left out where they would be too many.

        The question stands after the response, so a cut of the sequence itself would cut the answer off.

        Returns:
            None where nothing of the response fits.
        """
        ids = self.encode(request, response)
        if len(ids) <= self.limit:
            return Fitted(ids, is_cut=False)
        offsets = self._model.encode_untrusted(response).offsets
        best: list[int] | None = None
        least, most = 1, min(len(offsets), self.limit - len(self.encode(request, "")))
        while least <= most:  # escapes may need more tokens than the text itself, so how many is tried
            keep = (least + most + 1) // 2
            ids = self.encode(request, response[: offsets[keep - 1][1]])
            if len(ids) <= self.limit:
                best, least = ids, keep + 1
            else:
                most = keep - 1
        return None if best is None else Fitted(best, is_cut=True)

    def _ids(self, request: str, response: str, pieces: Sequence[str]) -> list[int]:
        data = f"{MARKER}\n{quote({'request': request, 'response': response})}\n{MARKER}"
        user = QUESTION.format(asked=ASKED, marker=MARKER, data=data, form=self._form)
        texts = [SYSTEM, user] if len(self.roles) > 1 else [f"{SYSTEM}\n\n{user}"]
        return framed_ids(self._model, pieces, texts)

    def _first_token(self, answer: str) -> int:
        before = self._ids("", "", self._pieces)
        after = self._ids("", "", [*self._pieces[:-1], self._pieces[-1] + answer])
        if after[: len(before)] != before or len(after) == len(before):
            message = f"the chat template of {self._model.id} runs into the answer, so it cannot be read."
            raise ModelError(message)
        return after[len(before)]


def _layout(model: LocalModel) -> tuple[tuple[str, ...], list[str]]:
    """With a system turn where the template takes one; else its text stands before the question."""
    try:
        return _ROLES[0], chat_pieces(model, _ROLES[0])
    except ModelError:
        return _ROLES[1], chat_pieces(model, _ROLES[1])
