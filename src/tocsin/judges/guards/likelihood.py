"""Asking local weights: how likely are the two answers, in forward passes without writing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from tocsin.core.errors import ModelError
from tocsin.core.records import Abstention, Reason
from tocsin.judges.guards.guard import Answered, Guard, GuardSettings, Question, Step
from tocsin.models.framed import framed_ids, printed_pieces
from tocsin.models.local import LocalModel
from tocsin.models.local.next_token import next_log_probs
from tocsin.models.local.writing import write_greedily

CODE_TOKENS = 24
"""Longest line of categories."""


class _Frame(NamedTuple):
    """Text around request and response, and the tokens before it."""

    pieces: tuple[str, str, str]
    prefix: tuple[int, ...]


@dataclass(slots=True)
class _State:
    """One question about one pair on its way."""

    pair: int
    question: Question
    said: str = ""
    """The reply so far."""
    odds: float = 0.0
    """Natural log-odds of the last answer."""
    extra: dict[str, JsonValue] = field(default_factory=dict)
    mass: float = 1.0
    problem: Abstention | None = None


class LikelihoodAsker:
    """Local weights that are asked for the probability of their answers (implements `Asker`).

    Args:
        guard: What is asked.
        model: Whose answers are likely or not.
        settings: Which frame, and how likely the answers must be.
        batch_size: Most sequences of a batch.

    Raises:
        ModelError: If the model ships no usable chat template and one is asked for.
    """

    def __init__(
        self, guard: Guard, model: LocalModel, settings: GuardSettings, *, batch_size: int | None = None
    ) -> None:
        self._guard, self._model = guard, model
        self._batch_size = batch_size
        self._min_mass = settings.min_mass
        shipped = guard.ships_template and model.has_template
        self._frame_kind = settings.frame or ("template" if shipped else "published")
        self._frames = {each.name: self._frame(each) for each in guard.questions}
        self.id = model.id

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Weights, frame, and how likely the answers must be."""
        return {
            "revision": self._model.revision,
            "frame": self._frame_kind,
            "template": self._model.template_hash if self._frame_kind == "template" else None,
            "min_mass": self._min_mass,
        }

    def ask(self, pairs: Sequence[tuple[str, str]], threshold: float) -> list[Answered | Abstention]:
        """Answers in order; see `Asker.ask`."""
        states = [_State(n, question) for n in range(len(pairs)) for question in self._guard.questions]
        for number in range(max(len(question.steps) for question in self._guard.questions)):
            for question in self._guard.questions:
                if number < len(question.steps):
                    mine = [s for s in states if s.question is question and s.problem is None]
                    self._take(mine, pairs, question.steps[number])
        answered = [self._joined([state for state in states if state.pair == n]) for n in range(len(pairs))]
        if self._guard.codes is not None and self._guard.wants_codes:
            self._read_codes(states, pairs, answered, threshold)
        return answered

    def close(self) -> None:
        """Nothing is held open."""

    def _frame(self, question: Question) -> _Frame:
        if self._frame_kind == "published":
            return _Frame(question.frame, self._model.raw_prefix)
        render = partial(self._model.render, options=question.options)
        roles = ["user", "assistant"] + (["user"] if question.last_turn is not None else [])
        before, between, after, *rest = printed_pieces(self._model.id, render, roles)
        if question.last_turn is not None:
            after += question.last_turn + rest[0]
        return _Frame((before, between, after), ())

    def _take(self, states: Sequence[_State], pairs: Sequence[tuple[str, str]], step: Step) -> None:
        """Ask one step of some states, and note the likelier answer."""
        sequences, asked = [], []
        for state in states:
            tail = self._frames[state.question.name].pieces[2] + state.said
            is_there = step.lead.isspace() and tail.endswith(step.lead)
            state.said += "" if is_there else step.lead
            ids = self._ids(state, pairs[state.pair])
            if len(ids) >= self._model.context:
                detail = f"the question has {len(ids):,} tokens, and the model reads {self._model.context:,}"
                state.problem = Abstention(reason=Reason.TRUNCATED, detail=detail)
                continue
            sequences.append(ids)
            asked.append(state)
        if not asked:
            return
        tail = self._frames[asked[0].question.name].pieces[2]
        # States of one question and step differ in earlier answers only, which do not touch these tokens.
        yes, no = self._answer_tokens(tail + asked[0].said, step)
        found = next_log_probs(
            self._model.torch_model, sequences, [*yes, *no], batch_size=self._batch_size
        ).astype(np.float64)
        for state, row in zip(asked, found, strict=True):
            self._note(
                state, step, np.logaddexp.reduce(row[: len(yes)]), np.logaddexp.reduce(row[len(yes) :])
            )

    def _note(self, state: _State, step: Step, yes: float, no: float) -> None:
        mass = math.exp(yes) + math.exp(no)
        state.mass = min(state.mass, mass)
        if not math.isfinite(yes - no) or mass < self._min_mass:
            detail = (
                f"the answers have probability {mass:.2g} together; below {self._min_mass:g} the model would "
                "write something else"
            )
            state.problem = Abstention(reason=Reason.UNPARSED, detail=detail)
            return
        state.odds = float(yes - no)
        state.said += step.yes[0] if state.odds > 0 else step.no[0]
        if len(state.question.steps) > 1:
            state.extra[step.name] = probability(state.odds)

    def _ids(self, state: _State, pair: tuple[str, str]) -> list[int]:
        """Tokens of the frame with both texts, and of the reply so far as the model would have written it."""
        pieces, prefix = self._frames[state.question.name]
        before, between, after = pieces
        ids, offsets = self._model.encode(after + state.said)
        if any(start < len(after) < end for start, end in offsets):
            message = (
                f"the tokenizer of {self._model.id} joins the frame of {self._guard.family} with the reply. "
                "Use the weights that belong to this guard."
            )
            raise ModelError(message)
        said = [token for token, (start, _) in zip(ids, offsets, strict=True) if start >= len(after)]
        return [*prefix, *framed_ids(self._model, (before, between, after), pair), *said]

    def _answer_tokens(self, tail: str, step: Step) -> tuple[list[int], list[int]]:
        """First tokens of the spellings of both answers, behind the text before them."""
        yes, no = self._first_tokens(tail, step.yes), self._first_tokens(tail, step.no)
        both = set(yes) & set(no)
        yes, no = [t for t in yes if t not in both], [t for t in no if t not in both]
        if not yes or not no:
            message = (
                f"the tokenizer of {self._model.id} does not tell the answers of {self._guard.family} apart "
                "by their first token. Use the weights that belong to this guard."
            )
            raise ModelError(message)
        return yes, no

    def _first_tokens(self, tail: str, spellings: Sequence[str]) -> list[int]:
        found = []
        for spelling in spellings:
            ids, offsets = self._model.encode(tail + spelling)
            # A token that lies across the border is none that can follow the text.
            place = next(n for n, (_, end) in enumerate(offsets) if end > len(tail))
            if offsets[place][0] >= len(tail):
                found.append(ids[place])
        return list(dict.fromkeys(found))

    def _joined(self, states: Sequence[_State]) -> Answered | Abstention:
        problem = next((state.problem for state in states if state.problem is not None), None)
        if problem is not None:
            return problem
        extra: dict[str, JsonValue] = {"mass": min(state.mass for state in states)}
        for state in states:
            extra |= state.extra
        raws = {state.question.name: state.odds for state in states}
        return Answered(
            scores={name: probability(odds) for name, odds in raws.items()}, raw_scores=raws, extra=extra
        )

    def _read_codes(
        self,
        states: Sequence[_State],
        pairs: Sequence[tuple[str, str]],
        answered: list[Answered | Abstention],
        threshold: float,
    ) -> None:
        """Have flagged responses' categories written; what cannot be read changes no score."""
        codes = self._guard.codes
        assert codes is not None
        wanted, sequences = [], []
        for state in states:
            found = answered[state.pair]
            if not isinstance(found, Answered) or max(found.scores.values()) < threshold:
                continue
            step = state.question.steps[-1]
            if state.odds <= 0:  # flagged below even odds: the categories are asked for all the same
                state.said = state.said.removesuffix(step.no[0]) + step.yes[0]
            state.said += codes.lead
            wanted.append(state)
            sequences.append(self._ids(state, pairs[state.pair]))
        size = self._batch_size or 8
        for start in range(0, len(wanted), size):
            written = write_greedily(
                self._model.torch_model,
                sequences[start : start + size],
                max_tokens=CODE_TOKENS,
                ends=self._model.end_ids,
            )
            for state, reply in zip(wanted[start : start + size], written, strict=True):
                read = codes.read(self._model.decode(reply.ids).strip())
                whole = answered[state.pair]
                if isinstance(whole, Answered) and not isinstance(read, Abstention) and not reply.is_cut:
                    answered[state.pair] = replace(whole, codes=read)


def probability(odds: float) -> float:
    """Probability of natural log-odds."""
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0
