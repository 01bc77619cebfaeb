"""Asking a guard behind a provider: it gives an answer, and no probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from tocsin.core.errors import UsageError
from tocsin.core.records import Abstention, Reason
from tocsin.judges.guards.guard import Answered, Guard, GuardSettings, Question, Reading
from tocsin.models.chat import ChatReply, ChatRequest, ProviderFailure, unusable, usage_of
from tocsin.models.responder import Responder


@dataclass(slots=True)
class _State:
    """One question about one pair on its way."""

    pair: int
    question: Question
    attempt: int = 1
    reading: Reading | None = None
    problem: Abstention | None = None
    replies: list[ChatReply] = field(default_factory=list)


class ProviderAsker:
    """A guard that a provider serves (implements `Asker`).

    The server's chat template makes the trained format, of the chat where the guard reads chats, else of one
    message. What the server does with control tokens that are spelt in a text is out of our hands.

    Args:
        guard: What is asked.
        responder: Who is asked.
        settings: How often, and whether in the published frame.

    Raises:
        UsageError: If the guard has several questions that the server cannot be told.
    """

    def __init__(self, guard: Guard, responder: Responder, settings: GuardSettings) -> None:
        self._guard, self._responder = guard, responder
        self._is_framed = settings.frame == "published"
        if not self._is_framed and len(guard.questions) > 1 and not guard.questions[0].is_told:
            names = ", ".join(question.name for question in guard.questions)
            message = (
                f"{guard.family}: a server's own template decides what is asked, so it cannot be asked about "
                f"{names} apart. Ask about one, or give frame=published where the server has no template."
            )
            raise UsageError(message)
        self._attempts = 1 if responder.is_repeatable else settings.attempts
        self.id = responder.id

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Of the responder."""
        frame = "published" if self._is_framed else "server"
        return {**self._responder.identity, "attempts": self._attempts, "frame": frame}

    def ask(self, pairs: Sequence[tuple[str, str]], threshold: float) -> list[Answered | Abstention]:  # noqa: ARG002 - replies name categories anyway
        """Answers in order; see `Asker.ask`."""
        states = [_State(n, question) for n in range(len(pairs)) for question in self._guard.questions]
        while waiting := [each for each in states if each.reading is None and each.problem is None]:
            replies = self._responder.replies(self._request(each, pairs[each.pair]) for each in waiting)
            for state, reply in zip(waiting, replies, strict=True):
                self._take(state, reply)
        return [self._joined([each for each in states if each.pair == n]) for n in range(len(pairs))]

    def close(self) -> None:
        """Close the provider's connections."""
        self._responder.close()

    def _request(self, state: _State, pair: tuple[str, str]) -> ChatRequest:
        if self._is_framed:
            before, between, after = state.question.frame
            return ChatRequest(
                system="", user="".join([before, pair[0], between, pair[1], after]), attempt=state.attempt
            )
        asked = state.question.asked(*pair)
        return ChatRequest(
            system=asked.system, user=asked.user, response=asked.response, attempt=state.attempt
        )

    def _take(self, state: _State, reply: ChatReply | ProviderFailure) -> None:
        if isinstance(reply, ProviderFailure):
            state.problem = Abstention(reason=Reason.PROVIDER, detail=str(reply))
            return
        state.replies.append(reply)
        is_enough = reply.stop == "length" and state.question.reads_first_word
        problem = None if is_enough else unusable(reply)
        found = problem if problem is not None else state.question.read(reply.text)
        if isinstance(found, Reading):
            state.reading = found
        elif state.attempt < self._attempts and reply.stop != "too-long":
            state.attempt += 1
        else:
            state.problem = found

    def _joined(self, states: Sequence[_State]) -> Answered | Abstention:
        problem = next((state.problem for state in states if state.problem is not None), None)
        if problem is not None:
            return problem
        usage = usage_of([reply for state in states for reply in state.replies])
        extra = dict(usage.extra)
        values: dict[str, float] = {}
        codes: list[str] = []
        for state in states:
            assert state.reading is not None
            values[state.question.name] = float(state.reading.is_unsafe)
            extra |= state.reading.parts
            codes += state.reading.codes
        return Answered(
            scores=values, raw_scores=values, extra=extra, codes=tuple(codes), dollars=usage.dollars
        )
