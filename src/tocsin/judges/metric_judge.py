"""What all judges share that give a number for a response without asking a model's opinion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from pydantic import JsonValue

from tocsin.core.records import Abstention, Examined, Item, Kind, Provenance, Reason, Verdict
from tocsin.core.registry import DetectorContext, DetectorInfo

RESPONSE_KINDS = frozenset({Kind.RESPONSE})
Measure = Callable[[Item], float | Abstention]


class MetricJudge:
    """One metric as a detector (implements `Detector`).

    Args:
        info: Its registration.
        context: Threshold, if the user gave one.
        measure: The metric of a readable response, or why there is none.
        default_threshold: At and above it a response is flagged; nobody fitted it.
        is_share: The metric lies between 0 and 1, so that it is the score too.
        labels: Words for a flagged and for another response.
        version: Changes when the numbers change.
        settings: What decides the metric, for provenance.
        parts: Names of what is read.
    """

    def __init__(
        self,
        info: DetectorInfo,
        context: DetectorContext,
        measure: Measure,
        *,
        default_threshold: float,
        is_share: bool = True,
        labels: tuple[str, str] = ("like the reference", "unlike the reference"),
        version: str = "1",
        settings: Mapping[str, JsonValue] | None = None,
        parts: tuple[str, ...] = ("text", "references"),
    ) -> None:
        self.info = info
        self._measure = measure
        self._is_share = is_share
        self._labels = labels
        self._parts = parts
        own = context.threshold
        self._threshold = default_threshold if own is None else own
        self._provenance = Provenance(
            detector_version=version,
            threshold=self._threshold,
            threshold_source="default" if own is None else "command line",
            settings=dict(settings or {}),
        )

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """Everything beside the item that decides a verdict."""
        return {"detector": self.info.name, **self._provenance.model_dump(mode="json")}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order; nothing is held back."""
        for item in items:
            yield self._verdict(item)

    def _verdict(self, item: Item) -> Verdict:
        problem = unreadable(item)
        value = problem if problem is not None else self._measure(item)
        if isinstance(value, Abstention):
            return Verdict.abstain(item, self.info.name, self._provenance, value.reason, value.detail)
        flagged = value >= self._threshold
        return Verdict(
            key=item.key,
            detector=self.info.name,
            flagged=flagged,
            label=self._labels[0] if flagged else self._labels[1],
            score=min(1.0, max(0.0, value)) if self._is_share else None,
            raw_score=value,
            examined=Examined(parts=self._parts, left_out=item.partial),
            provenance=self._provenance,
        )


def unreadable(item: Item) -> Abstention | None:
    """Why an item is no response that can be judged; None when it is one."""
    if item.problem is not None:
        return item.problem
    if item.kind not in RESPONSE_KINDS:
        return Abstention(
            reason=Reason.UNSUPPORTED_KIND, detail=f"a judge of responses cannot read a {item.kind.value}"
        )
    if not item.text.strip():
        return Abstention(reason=Reason.EMPTY, detail="the response has no text")
    return None


def unreadable_pair(item: Item, most: int) -> Abstention | None:
    """Why an item is no response that can be judged together with its request; None when it is one.

    Args:
        item: What is to be judged.
        most: Characters of request and response together. Longer ones are not judged: which part would a cut
            leave out?
    """
    problem = unreadable(item)
    if problem is not None:
        return problem
    if item.prompt is None or not item.prompt.strip():
        detail = "the judge reads a response together with its request, and the item has none"
        return Abstention(reason=Reason.MISSING_PART, detail=detail)
    size = len(item.prompt) + len(item.text)
    if size > most:
        detail = f"request and response have {size:,} characters, of at most {most:,}"
        return Abstention(reason=Reason.TRUNCATED, detail=detail)
    return None
