"""Asking a rubric's questions in rounds, and what comes of the replies.

A reply that cannot be used is asked for once more. A round that still has no verdict makes the item abstain:
there is no mean over the rounds that are left, and nothing becomes "safe" because a judge failed. Models that
give the same reply again (local ones write greedily) are asked in one round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from tocsin.core.errors import UsageError
from tocsin.core.records import Abstention, Examined, Item, Provenance, Reason, Record, Verdict
from tocsin.core.registry import Cost, Detector, DetectorContext, Factory, detector, lookup
from tocsin.judges.metric_judge import RESPONSE_KINDS, unreadable_pair
from tocsin.judges.prompted.rubrics import RUBRICS, Answer, Head, Rubric, combine_heads
from tocsin.judges.prompted.wording import QUESTION
from tocsin.models.chat import (
    ChatReply,
    ChatRequest,
    ChatSettings,
    ProviderFailure,
    Transport,
    unusable,
    usage_of,
)
from tocsin.models.fence import fenced, local_secret
from tocsin.models.responder import Responder, open_responder
from tocsin.models.spec import parse_model

VERSION = "1"
CHUNK = 32
"""Items that are asked about together."""
MAX_CHARACTERS = 100_000
"""Of request and response."""


class PromptedSettings(Record):
    """How a rubric is asked."""

    rounds: int = Field(default=3, ge=1, le=20)
    """Independent replies to each question; arXiv 2509.24384 takes three and their mean."""
    attempts: int = Field(default=2, ge=1, le=5)
    """Replies asked for until one of a round can be used; published: 2."""
    wording: Literal[1, 2, 3, "each"] = 1
    """Which wording of the question, where there are several; `each` takes them in turn over the rounds, so
    that the spread of the rounds shows what wording does."""


class _Options(PromptedSettings, ChatSettings, Transport):
    """Everything that may stand under a prompted judge in the run's options."""


@dataclass(slots=True)
class _Round:
    """One round of one item on its way."""

    item: int
    number: int
    request: str
    response: str
    answers: list[Answer] = field(default_factory=list)
    replies: list[ChatReply] = field(default_factory=list)
    attempt: int = 1
    problem: Abstention | None = None

    def is_done(self, n_heads: int) -> bool:
        """Whether nothing is left to ask."""
        if self.problem is not None or len(self.answers) == n_heads:
            return True
        return bool(self.answers) and self.answers[-1].value == 0


class PromptedJudge:
    """A rubric asked of a model that writes (implements `Detector`).

    Args:
        rubric: What is asked.
        model: Who is asked.
        settings: How.
        threshold: In place of the rubric's own.
    """

    def __init__(
        self,
        rubric: Rubric,
        model: Responder,
        settings: PromptedSettings | None = None,
        *,
        threshold: float | None = None,
    ) -> None:
        self.info = lookup(rubric.name).info
        self.settings = settings if settings is not None else PromptedSettings()
        self._rubric, self._model = rubric, model
        self._secret = local_secret()
        self._threshold = rubric.threshold if threshold is None else threshold
        several = self.settings.wording == "each"
        if self.settings.wording not in (1, "each") and rubric.n_wordings == 1:
            message = f"{rubric.name} is asked in one wording only, got wording {self.settings.wording}."
            raise UsageError(message)
        self._n_rounds = self.settings.rounds
        if model.is_repeatable:
            self._n_rounds = rubric.n_wordings if several else 1
        self._attempts = 1 if model.is_repeatable else self.settings.attempts
        self.provenance = Provenance(
            detector_version=VERSION,
            model=model.id,
            prompt_hash=rubric.prompt_hash,
            normalisation=("data written as one line of JSON with escapes",),
            threshold=self._threshold,
            threshold_source="default" if threshold is None else "command line",
            settings={
                **model.identity,
                "rounds": self._n_rounds,
                "attempts": self._attempts,
                "wording": self.settings.wording,
            },
        )

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Everything beside the item that decides a verdict."""
        return {"detector": self.info.name, **self.provenance.model_dump(mode="json")}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order; at most `CHUNK` items are held back.

        Raises:
            ModelError: If the model can never answer: unknown name, wrong key.
        """
        stream = iter(items)
        try:
            while chunk := list(islice(stream, CHUNK)):
                yield from self._judge(chunk)
        finally:
            self._model.close()

    def _judge(self, items: list[Item]) -> Iterator[Verdict]:
        problems = [unreadable_pair(item, MAX_CHARACTERS) for item in items]
        known = [self._rubric.without_asking(item.text) for item in items]
        rounds = [
            _Round(index, number, item.prompt or "", item.text)
            for index, item in enumerate(items)
            if problems[index] is None and known[index] is None
            for number in range(1, self._n_rounds + 1)
        ]
        heads = self._rubric.heads
        while pending := [each for each in rounds if not each.is_done(len(heads))]:
            replies = self._model.replies(self._question(each) for each in pending)
            for each, reply in zip(pending, replies, strict=True):
                self._take(each, heads[len(each.answers)], reply)
        for index, item in enumerate(items):
            problem, value = problems[index], known[index]
            if problem is not None:
                yield self._abstain(item, problem)
            elif value is not None:
                yield self._verdict(item, [value], [])
            else:
                yield self._joined(item, [each for each in rounds if each.item == index])

    def _question(self, each: _Round) -> ChatRequest:
        head = self._rubric.heads[len(each.answers)]
        wording = self.settings.wording
        n = (each.number - 1 if wording == "each" else wording - 1) % len(head.system)
        marker, data = fenced({"request": each.request, "response": each.response}, self._secret)
        user = QUESTION.format(asked=head.asked[n], marker=marker, data=data, form=head.form)
        return ChatRequest(system=head.system[n], user=user, pass_number=each.number, attempt=each.attempt)

    def _take(self, each: _Round, head: Head, reply: ChatReply | ProviderFailure) -> None:
        """Note what a reply says, or have it asked for again."""
        if isinstance(reply, ProviderFailure):
            # The provider has been tried several times already; asking again is for the next run.
            each.problem = Abstention(reason=Reason.PROVIDER, detail=str(reply))
            return
        each.replies.append(reply)
        answer: Answer | Abstention | None = unusable(reply)
        if answer is None or (reply.stop == "length" and head.reads_first_word):
            answer = head.read(reply.text)
        if isinstance(answer, Answer):
            each.answers.append(answer)
            each.attempt = 1
        elif each.attempt < self._attempts and reply.stop != "too-long":
            each.attempt += 1
        else:
            each.problem = answer

    def _joined(self, item: Item, rounds: list[_Round]) -> Verdict:
        replies = [reply for each in rounds for reply in each.replies]
        failed = [each.problem for each in rounds if each.problem is not None]
        if failed:
            detail = f"{len(failed)} of {len(rounds)} rounds failed; first: {failed[0].detail}"
            return self._abstain(item, Abstention(reason=failed[0].reason, detail=detail), replies)
        values = [
            self._rubric.after(item.text, combine_heads([answer.value for answer in each.answers]))
            for each in rounds
        ]
        return self._verdict(item, values, rounds)

    def _verdict(self, item: Item, values: list[float], rounds: list[_Round]) -> Verdict:
        usage = usage_of([reply for each in rounds for reply in each.replies])
        raw = sum(values) / len(values)
        score = self._rubric.score(raw)
        flagged = score >= self._threshold
        extra: dict[str, JsonValue] = {
            **usage.extra,
            "rounds": list(values),
            "spread": max(values) - min(values),
        }
        extra |= self._means(rounds)
        if len(self._rubric.heads) > 1:
            extra["fails"] = [self._failing(each) for each in rounds]
        return Verdict(
            key=item.key,
            detector=self.info.name,
            flagged=flagged,
            label=self._rubric.labels[0] if flagged else self._rubric.labels[1],
            score=score,
            raw_score=raw,
            examined=Examined(parts=("prompt", "text"), left_out=item.partial),
            cost=usage.dollars,
            extra=extra,
            provenance=self.provenance,
        )

    def _means(self, rounds: list[_Round]) -> dict[str, JsonValue]:
        """Mean of each number that answers are made of."""
        found: dict[str, list[float]] = {}
        for each in rounds:
            for answer in each.answers:
                for name, value in answer.parts.items():
                    found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _failing(self, each: _Round) -> str | None:
        """The criterion that does not hold; None where all do."""
        if each.answers[-1].value != 0:
            return None
        return self._rubric.heads[len(each.answers) - 1].name

    def _abstain(self, item: Item, problem: Abstention, replies: list[ChatReply] | None = None) -> Verdict:
        usage = usage_of(replies or [])
        verdict = Verdict.abstain(
            item,
            self.info.name,
            self.provenance,
            problem.reason,
            problem.detail,
            extra=usage.extra if replies else None,
        )
        return verdict if usage.dollars is None else verdict.model_copy(update={"cost": usage.dollars})


def _factory(rubric: Rubric) -> Factory:
    def build(context: DetectorContext) -> Detector:
        try:
            options = _Options.model_validate(context.options.get(rubric.name, {}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "options"
            message = f"{rubric.name}: {where}: {first['msg']}. Settings: {', '.join(_Options.model_fields)}."
            raise UsageError(message) from error
        chat = ChatSettings(**{name: getattr(options, name) for name in ChatSettings.model_fields})
        if parse_model(context.model).has_activations and chat.max_tokens is None:
            chat = chat.model_copy(update={"max_tokens": rubric.reply_tokens})
        model = open_responder(
            context.model,
            settings=chat,
            transport=Transport(**{name: getattr(options, name) for name in Transport.model_fields}),
            offline=context.offline,
            device=context.device,
            batch_size=context.batch_size,
        )
        settings = PromptedSettings(**{n: getattr(options, n) for n in PromptedSettings.model_fields})
        return PromptedJudge(rubric, model, settings, threshold=context.threshold)

    return build


for _rubric in RUBRICS.values():
    detector(
        _rubric.name,
        summary=_rubric.summary,
        kinds=RESPONSE_KINDS,
        cost=Cost.PROVIDER_CALLS,
        polarity=f"flagged = {_rubric.labels[0]}, in the eyes of the model that is asked",
        threshold_rule=_rubric.threshold_rule,
        needs="eval",
        card=_rubric.card,
    )(_factory(_rubric))
