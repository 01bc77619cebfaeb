"""Guards as detectors of responses: which responses are asked about, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from tocsin.core.errors import UsageError
from tocsin.core.records import Abstention, Examined, Item, Provenance, Record, Verdict
from tocsin.core.registry import Cost, Detector, DetectorContext, Factory, detector, lookup
from tocsin.judges.guards.families import FAMILIES
from tocsin.judges.guards.guard import Answered, Asker, Family, Guard, GuardSettings
from tocsin.judges.guards.likelihood import LikelihoodAsker
from tocsin.judges.guards.provided import ProviderAsker
from tocsin.judges.metric_judge import RESPONSE_KINDS, unreadable_pair
from tocsin.models.chat import ChatSettings, Transport
from tocsin.models.responder import open_responder
from tocsin.models.spec import parse_model
from tocsin.models.white_box import load_white_box

VERSION = "1"
CHUNK = 32
"""Items that are asked about together."""
MAX_CHARACTERS = 200_000
"""Of request and response; a local model's context is a further limit."""
THRESHOLD = 0.5
_SHORT = 12
"""Shorter lines of a frame occur in any text."""

RecordT = TypeVar("RecordT", bound=Record)


class GuardJudge:
    """A guard that reads a response together with its request (implements `Detector`).

    `score` is the probability of the unsafe answer against the safe one where local weights are asked, else 1
    or 0; of several questions the highest. One question without an answer makes the item abstain.

    Args:
        guard: What is asked.
        asker: Who is asked.
        threshold: In place of 0.5.
    """

    def __init__(self, guard: Guard, asker: Asker, *, threshold: float | None = None) -> None:
        self.info = lookup(guard.family).info
        self._guard, self._asker = guard, asker
        self._threshold = THRESHOLD if threshold is None else threshold
        self._markers = _markers(guard)
        self.provenance = Provenance(
            detector_version=VERSION,
            model=asker.id,
            prompt_hash=guard.prompt_hash,
            threshold=self._threshold,
            threshold_source="default" if threshold is None else "command line",
            settings={**asker.identity, **guard.settings},
        )

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Everything beside the item that decides a verdict."""
        return {"detector": self.info.name, **self.provenance.model_dump(mode="json")}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order; at most `CHUNK` items are held back.

        Raises:
            ModelError: If the model can never answer: other weights than the guard's, unknown name or key.
        """
        stream = iter(items)
        try:
            while chunk := list(islice(stream, CHUNK)):
                yield from self._judge(chunk)
        finally:
            self._asker.close()

    def _judge(self, items: list[Item]) -> Iterator[Verdict]:
        problems = [unreadable_pair(item, MAX_CHARACTERS) for item in items]
        readable = [item for item, problem in zip(items, problems, strict=True) if problem is None]
        pairs = [(item.prompt or "", item.text) for item in readable]
        if self._guard.strips:
            pairs = [(request.strip(), response.strip()) for request, response in pairs]
        answers = iter(self._asker.ask(pairs, self._threshold) if pairs else [])
        for item, problem in zip(items, problems, strict=True):
            found = problem if problem is not None else next(answers)
            yield self._abstain(item, found) if isinstance(found, Abstention) else self._verdict(item, found)

    def _verdict(self, item: Item, answered: Answered) -> Verdict:
        strongest = max(answered.scores, key=answered.raw_scores.__getitem__)
        score = answered.scores[strongest]
        flagged = score >= self._threshold
        extra = dict(answered.extra)
        if len(self._guard.questions) > 1:
            extra["questions"] = dict(answered.scores)
        if self._guard.codes is not None:
            is_known = bool(answered.codes) or not flagged
            extra["categories"] = list(answered.codes) if is_known else None
        if any(marker in text for marker in self._markers for text in (item.prompt or "", item.text)):
            extra["spells_frame"] = True
        categories = self._categories(answered, strongest) if flagged else []
        return Verdict(
            key=item.key,
            detector=self.info.name,
            flagged=flagged,
            label="unsafe" if flagged else "not flagged",
            score=score,
            raw_score=answered.raw_scores[strongest],
            category=categories[0] if categories else None,
            categories=dict.fromkeys(categories, score),
            examined=Examined(parts=("prompt", "text"), left_out=item.partial),
            cost=answered.dollars,
            extra=extra,
            provenance=self.provenance,
        )

    def _categories(self, answered: Answered, strongest: str) -> list[str]:
        """Taxonomy ids of a flagged response: the nearest one of each code, or what was asked about."""
        if self._guard.codes is not None:
            ids = [self._guard.codes.ids[code][0] for code in answered.codes]
            return list(dict.fromkeys(ids))
        asked = next(each for each in self._guard.questions if each.name == strongest)
        return [] if asked.category is None else [asked.category]

    def _abstain(self, item: Item, problem: Abstention) -> Verdict:
        return Verdict.abstain(item, self.info.name, self.provenance, problem.reason, problem.detail)


def _markers(guard: Guard) -> tuple[str, ...]:
    """Lines of the guard's frames; a text that holds one may try to end the frame."""
    frames = [question.frame for question in guard.questions]
    lines = {line.strip() for frame in frames for piece in frame for line in piece.splitlines()}
    return tuple(sorted(line for line in lines if len(line) >= _SHORT))


def needs_weights(name: str, model: str) -> None:
    """Refuse the embedded model, which is no guard.

    Raises:
        UsageError: If no other model is named.
    """
    if parse_model(model).kind == "embedded":
        message = (
            f"{name} needs a guard model's weights, and 'embedded' is none. Give --model with their folder, "
            "hub:org/name, or provider/name."
        )
        raise UsageError(message)


def picked(name: str, given: JsonValue, kinds: tuple[type[Record], ...]) -> list[Record]:
    """Options of a detector, shared out over the records that have fields of these names.

    Raises:
        UsageError: If no record has a field of that name, or a value is not allowed.
    """
    options = dict(given) if isinstance(given, Mapping) else {}
    known = [field for kind in kinds for field in kind.model_fields]
    unknown = sorted(set(options) - set(known))
    if unknown:
        message = f"{name}: unknown setting '{unknown[0]}'. Settings: {', '.join(known)}."
        raise UsageError(message)
    try:
        return [
            kind.model_validate({key: options[key] for key in kind.model_fields if key in options})
            for kind in kinds
        ]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{name}: {where}: {first['msg']}. Settings: {', '.join(known)}."
        raise UsageError(message) from error


def _factory(family: Family) -> Factory:
    def build(context: DetectorContext) -> Detector:
        needs_weights(family.name, context.model)
        given = context.options.get(family.name, {})
        settings, chat, transport = picked(family.name, given, (family.settings, ChatSettings, Transport))
        assert isinstance(settings, GuardSettings)
        guard = family.build(settings)
        asker: Asker
        if parse_model(context.model).has_activations:
            model = load_white_box(context.model, context)
            asker = LikelihoodAsker(guard, model, settings, batch_size=context.batch_size)
        else:
            assert isinstance(chat, ChatSettings)
            assert isinstance(transport, Transport)
            if chat.temperature is None:  # guards are published as writing greedily
                chat = chat.model_copy(update={"temperature": 0.0})
            responder = open_responder(
                context.model, settings=chat, transport=transport, offline=context.offline
            )
            asker = ProviderAsker(guard, responder, settings)
        return GuardJudge(guard, asker, threshold=context.threshold)

    return build


for _family in FAMILIES.values():
    detector(
        _family.name,
        summary=_family.summary,
        kinds=RESPONSE_KINDS,
        languages=_family.languages,
        cost=Cost.FORWARD_PASS,
        polarity="flagged = unsafe, in the eyes of the guard",
        threshold_rule="the unsafe answer is likelier than the safe one (0.5), or --threshold",
        needs="local",
        card=_family.card,
        weights_licence=_family.licence,
    )(_factory(_family))
