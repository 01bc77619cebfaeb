"""The detectors of one scan: which one reads which item, each built when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tocsin.core.errors import UsageError
from tocsin.core.records import SCHEMA_VERSION, Abstention, Item, Kind, Provenance, Reason, Verdict
from tocsin.core.registry import Detector, DetectorContext, DetectorInfo, create, lookup

DEFAULT_FOR_SKILLS = "policy-embedded"
DEFAULT_FOR_TEXT = "harmfulness"
DEFAULTS = (DEFAULT_FOR_TEXT, DEFAULT_FOR_SKILLS)


class Panel:
    """Routes items to detectors.

    Without names, skills go to `policy-embedded` and everything else to `harmfulness`. A detector that is
    named sees every item, and abstains on kinds that it does not read.

    Args:
        names: Detectors asked for; empty for the defaults.
        context: Makes the context of a detector; all of them share one `DetectorContext.shared`.
        on_built: Told of each detector when it is built.

    Raises:
        UsageError: If a name is unknown or given twice.
    """

    def __init__(
        self,
        names: Sequence[str],
        context: Callable[[str], DetectorContext],
        on_built: Callable[[Detector], None] = lambda _: None,
    ) -> None:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"the detector '{twice[0]}' is asked for twice. Name each detector once."
            raise UsageError(message)
        self._is_default = not names
        self._infos: Mapping[str, DetectorInfo] = {name: lookup(name).info for name in names or DEFAULTS}
        self._context = context
        self._on_built = on_built
        self._built: dict[str, Detector] = {}

    @property
    def infos(self) -> list[DetectorInfo]:
        """Registrations of the detectors, in the order in which they see a chunk."""
        return list(self._infos.values())

    def reads(self, name: str, item: Item) -> bool:
        """Whether this detector gives a verdict (or an abstention) on this item."""
        if not self._is_default:
            return True
        return name == (DEFAULT_FOR_SKILLS if item.kind is Kind.SKILL else DEFAULT_FOR_TEXT)

    def judge(self, name: str, items: Sequence[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order.

        What no detector could read is not shown to any: an item that its reader could not read, or of a kind
        that the detector does not declare, becomes an abstention here.
        """
        info = self._infos[name]
        problems = [_problem(info, item) for item in items]
        readable = [item for item, problem in zip(items, problems, strict=True) if problem is None]
        verdicts = self._verdicts(name, readable)
        for item, problem in zip(items, problems, strict=True):
            if problem is None:
                yield next(verdicts)
            else:
                yield Verdict.abstain(item, name, _BY_SCAN, problem.reason, problem.detail)
        next(verdicts, None)  # lets the generator see its end

    def _verdicts(self, name: str, items: Sequence[Item]) -> Iterator[Verdict]:
        if not items:
            return
        given = iter(self._detector(name).detect(items))
        for item in items:
            verdict = next(given, None)
            if verdict is None:
                message = f"the detector '{name}' broke its contract: an item got no verdict."
                raise RuntimeError(message)
            if verdict.key != item.key or verdict.detector != name:
                message = f"the detector '{name}' broke its contract: a verdict is out of order or misnamed."
                raise RuntimeError(message)
            yield verdict
        if next(given, None) is not None:
            message = f"the detector '{name}' broke its contract: a verdict too many."
            raise RuntimeError(message)

    def _detector(self, name: str) -> Detector:
        if name not in self._built:
            built = create(name, self._context(name))
            self._on_built(built)
            self._built[name] = built
        return self._built[name]


_BY_SCAN = Provenance(
    detector_version=f"scan/{SCHEMA_VERSION}",
    threshold_source="none",
    settings={"decided_by": "the scan, before any detector was asked"},
)


def _problem(info: DetectorInfo, item: Item) -> Abstention | None:
    if item.problem is not None:
        return item.problem
    if item.kind not in info.kinds:
        kinds = ", ".join(sorted(info.kinds))
        return Abstention(reason=Reason.UNSUPPORTED_KIND, detail=f"a {item.kind.value}; it reads {kinds}")
    return None
