"""The `policy` detector: asks a chat model several times, joins the replies, reports or abstains.

Rules beyond the paper, all visible in the verdict:

* A reply that cannot be used is asked for once more (`attempts`). A pass that still has no usable reply
makes the
  item abstain; there is no mean over the passes that are left.
* Of several windows (long text, bodies of skills) the largest risk counts. A window that cannot be judged
makes
  the item abstain, unless another window is above the threshold already: more text can only add risk.
* Risks are not calibrated, and not corrected for the number of windows; `examined.windows` says how many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from tocsin.core.errors import UsageError
from tocsin.core.records import Abstention, Evidence, Examined, Item, Provenance, Reason, Record, Verdict
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.detect.policy.prompt import (
    ASKED,
    Reading,
    TableName,
    prompt_hash,
    read,
    reply_schema,
    system_message,
    table,
    user_message,
)
from tocsin.detect.policy.reply import parse_risks
from tocsin.detect.policy.scoring import Outcome, Risks, judge, max_over_windows, mean_over_passes
from tocsin.models.background import map_in_order, run
from tocsin.models.chat import (
    ChatModel,
    ChatReply,
    ChatRequest,
    ChatSettings,
    ProviderFailure,
    Transport,
    open_chat_model,
    unusable,
    usage_of,
)
from tocsin.models.fence import local_secret
from tocsin.models.json_reply import ReplyError

NAME = "policy"
VERSION = "1"
CLOSE_SECONDS = 10.0
THRESHOLD = 0.60
"""arXiv 2604.15415, figure 2: best F1 of the sweep on 500 labelled skills; strict."""


class PolicySettings(Record):
    """Settings of the scorer. The paper's value is the default unless said otherwise."""

    taxonomy: TableName = "tocsin"
    """`tocsin`: our 26 categories, so that verdicts of all detectors share one list. `harmfulskillbench`:
    the 21 of the paper, for comparison with its numbers; risks are translated to our ids and kept in
    `extra.codes`."""
    passes: int = Field(default=3, ge=1, le=20)
    """Independent replies to each question."""
    attempts: int = Field(default=2, ge=1, le=5)
    """Replies asked for until one of a pass can be used. Not in the paper; 1 gives its letter."""
    structured: bool = True
    """Send the reply's JSON schema. Providers that know none ignore it; switch it off for one that refuses
    it."""
    threshold: float = Field(default=THRESHOLD, ge=0, le=1)
    """On the mean risk; strict."""
    deep: bool = False
    """Read the bodies of skills too. The paper reads name, description and section headers."""


class _Asked(NamedTuple):
    """What came of all passes over one window."""

    passes: tuple[Risks, ...]
    problem: Abstention | None
    replies: tuple[ChatReply, ...]


class Policy:
    """Scores items against the policy table with a chat model.

    Args:
        model: Answers the questions; wrap it in `Replaying` so that a second run is free and identical.
        settings: Settings of the scorer.
        at_once: Items under way at a time.
        threshold_source: `default` or `command line`, for provenance.
    """

    def __init__(
        self,
        model: ChatModel,
        settings: PolicySettings | None = None,
        *,
        at_once: int = 8,
        threshold_source: str = "default",
    ) -> None:
        self.info = lookup(NAME).info
        self.settings = settings if settings is not None else PolicySettings()
        self._model = model
        self._at_once = at_once
        self._table = table(self.settings.taxonomy)
        self._system = system_message(self._table)
        self._schema = reply_schema(self._table) if self.settings.structured else None
        self._threshold = Fraction(str(self.settings.threshold))
        self._secret = local_secret()
        self.provenance = Provenance(
            detector_version=VERSION,
            model=model.id,
            prompt_hash=prompt_hash(self._table, structured=self.settings.structured),
            normalisation=("data written as one line of JSON with escapes",),
            threshold=self.settings.threshold,
            threshold_source=threshold_source,
            settings={**model.identity, **self.settings.model_dump(mode="json", exclude={"threshold"})},
        )

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Everything that decides a verdict beside the item."""
        return self.provenance.model_dump(mode="json")

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """Yield one verdict for each item, in order; `at_once` items are under way at a time.

        Raises:
            ModelError: If the model can never answer: unknown name, wrong key.
        """
        try:
            yield from map_in_order(self._judge, items, at_once=self._at_once)
        finally:
            run(self._model.close(), timeout_s=CLOSE_SECONDS)

    async def _judge(self, item: Item) -> Verdict:
        if item.problem is not None:
            return self._abstain(item, item.problem)
        reading = read(item, deep=self.settings.deep)
        if isinstance(reading, Abstention):
            return self._abstain(item, reading)
        questions = [user_message(item.kind, window, self._secret) for window in reading.windows]
        asked = await asyncio.gather(*(self._ask(question) for question in questions))
        return self._verdict(item, reading, asked)

    async def _ask(self, question: str) -> _Asked:
        numbers = range(1, self.settings.passes + 1)
        results = await asyncio.gather(*(self._one_pass(question, number) for number in numbers))
        replies = tuple(reply for _, used in results for reply in used)
        problems = [outcome for outcome, _ in results if isinstance(outcome, Abstention)]
        if problems:
            detail = f"{len(problems)} of {len(results)} passes failed; first: {problems[0].detail}"
            return _Asked((), Abstention(reason=problems[0].reason, detail=detail), replies)
        return _Asked(tuple(o for o, _ in results if not isinstance(o, Abstention)), None, replies)

    async def _one_pass(self, question: str, number: int) -> tuple[Risks | Abstention, tuple[ChatReply, ...]]:
        """Risks of one pass, or why there are none, and the replies it took."""
        replies: list[ChatReply] = []
        problem = Abstention(reason=Reason.PROVIDER)
        for attempt in range(1, self.settings.attempts + 1):
            request = ChatRequest(
                system=self._system,
                user=question,
                reply_schema=self._schema,
                pass_number=number,
                attempt=attempt,
            )
            try:
                reply = await self._model.reply(request)
            except ProviderFailure as failure:
                # The provider has been tried several times already; asking again is for the next run.
                return Abstention(reason=Reason.PROVIDER, detail=str(failure)), tuple(replies)
            replies.append(reply)
            cut_short = unusable(reply)
            if cut_short is not None:
                problem = cut_short
                if reply.stop == "too-long":
                    break
                continue
            try:
                return parse_risks(reply.text, self._table.ids), tuple(replies)
            except ReplyError as error:
                problem = Abstention(reason=Reason.UNPARSED, detail=str(error))
        return problem, tuple(replies)

    def _verdict(self, item: Item, reading: Reading, asked: list[_Asked]) -> Verdict:
        usage = usage_of([reply for window in asked for reply in window.replies])
        means = [
            None if window.problem is not None else mean_over_passes(window.passes, self._table.ids)
            for window in asked
        ]
        judged = [risks for risks in means if risks is not None]
        problems = [window.problem for window in asked if window.problem is not None]
        outcome = judge(max_over_windows(judged, self._table.ids), self._threshold) if judged else None
        failed = tuple(f"a window that could not be judged: {p.reason.value}: {p.detail}" for p in problems)
        examined = Examined(
            parts=reading.parts, windows=len(reading.windows), left_out=(*reading.left_out, *failed)
        )
        if outcome is None or (problems and not outcome.is_harmful):
            return self._abstain(item, problems[0], examined=examined, extra=usage.extra, cost=usage.dollars)
        risks = {row_id: float(risk) for row_id, risk in outcome.risks.items()}
        extra: dict[str, JsonValue] = {
            **usage.extra,
            "tier": next((row.tier for row in self._table.rows if row.id == outcome.strongest), None),
            "violated": list(outcome.violated),
        }
        if self._table.name != "tocsin":
            extra["codes"] = {code: risk for code, risk in risks.items() if risk > 0}
        return Verdict(
            key=item.key,
            detector=NAME,
            flagged=outcome.is_harmful,
            label="harmful" if outcome.is_harmful else "harmless",
            score=float(outcome.overall),
            raw_score=float(outcome.overall),
            category=self._table.taxonomy_id(outcome.strongest) if outcome.strongest is not None else None,
            categories=self._table.to_taxonomy(risks),
            rationale=self._rationale(outcome, len(judged)),
            evidence=self._evidence(reading, means),
            examined=examined,
            cost=usage.dollars,
            extra=extra,
            provenance=self.provenance,
        )

    def _abstain(
        self,
        item: Item,
        problem: Abstention,
        *,
        examined: Examined | None = None,
        extra: dict[str, JsonValue] | None = None,
        cost: float | None = None,
    ) -> Verdict:
        verdict = Verdict.abstain(
            item, NAME, self.provenance, problem.reason, problem.detail, examined=examined, extra=extra
        )
        return verdict if cost is None else verdict.model_copy(update={"cost": cost})

    def _rationale(self, outcome: Outcome, n_windows: int) -> str:
        over = f"mean over {self.settings.passes} passes"
        if n_windows > 1:
            over += f", largest of {n_windows} windows"
        threshold = f"{self.settings.threshold:.2f}"
        if not outcome.violated:
            return (
                f"No category above {threshold}; the largest risk is {float(outcome.overall):.2f} ({over})."
            )
        strongest_first = sorted(outcome.violated, key=lambda c: -outcome.risks[c])
        listed = ", ".join(f"{c} {float(outcome.risks[c]):.2f}" for c in strongest_first)
        return f"Above {threshold}: {listed} ({over})."

    def _evidence(self, reading: Reading, means: list[dict[str, Fraction] | None]) -> tuple[Evidence, ...]:
        """The windows above the threshold, strongest first."""
        found = []
        for window, risks in zip(reading.windows, means, strict=True):
            overall = max(risks.values()) if risks is not None else Fraction(0)
            if overall > self._threshold:
                found += [
                    Evidence(part=s.part, start=s.start, end=s.end, score=float(overall))
                    for s in window.slices
                ]
        return tuple(sorted(found, key=lambda evidence: -(evidence.score or 0)))


class _Options(PolicySettings, ChatSettings, Transport):
    """Everything that may stand under `policy` in the run's options."""

    # At 0 three passes would be one pass asked three times; the paper names no temperature.
    temperature: float | None = Field(default=1.0, ge=0, le=2)


@detector(
    NAME,
    summary="rates skills and texts against a table of policy categories with a chat model, three passes",
    kinds=ASKED,
    cost=Cost.PROVIDER_CALLS,
    polarity="flagged means that the mean risk of some category is above the threshold",
    threshold_rule="largest mean risk over categories > 0.60, strict",
    needs="eval",
    card="HarmfulSkillBench scorer, arXiv 2604.15415",
)
def _make(context: DetectorContext) -> Policy:
    given = context.options.get(NAME, {})
    try:
        options = _Options.model_validate(given)
        threshold = TypeAdapter(float | None).validate_python(context.threshold)
        settings = PolicySettings.model_validate(
            {name: getattr(options, name) for name in PolicySettings.model_fields}
            | {"deep": context.deep or options.deep}
            | ({} if threshold is None else {"threshold": threshold})
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        message = f"policy: {where}: {first['msg']}. Settings: {', '.join(_Options.model_fields)}."
        raise UsageError(message) from error
    transport = Transport(**{name: getattr(options, name) for name in Transport.model_fields})
    model = open_chat_model(
        context.model,
        settings=ChatSettings(**{name: getattr(options, name) for name in ChatSettings.model_fields}),
        transport=transport,
        offline=context.offline,
    )
    source = "default" if context.threshold is None else "command line"
    return Policy(model, settings, at_once=transport.concurrency, threshold_source=source)
