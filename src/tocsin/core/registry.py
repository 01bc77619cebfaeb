"""One list of detectors and judges, ours and third parties', by name.

A plug-in is a decorated factory::

    @detector("surface", kinds=TEXT_KINDS, summary="...", cost=Cost.TEXT_ONLY, ...)
    def surface(context: DetectorContext) -> Detector: ...

and is found through the entry-point group ``tocsin``: each entry point names a module that registers its
factories when imported. Such modules import nothing heavy at the top, so that listing stays instant. A
plug-in
that fails to load is reported by name and never hides the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from pydantic import JsonValue

from tocsin.core.errors import UsageError
from tocsin.core.records import Item, Kind, Verdict

if TYPE_CHECKING:
    from typing_extensions import TypeIs

ENTRY_POINT_GROUP = "tocsin"


class Cost(StrEnum):
    """What one verdict costs, roughly."""

    TEXT_ONLY = "text only"
    FORWARD_PASS = "one forward pass"  # noqa: S105 - not a password
    PROVIDER_CALLS = "provider calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorInfo:
    """What is known about a detector before it is built."""

    name: str
    summary: str
    kinds: frozenset[Kind]
    languages: tuple[str, ...]
    """ISO 639-1 codes it was made for; empty when it does not depend on language."""
    cost: Cost
    polarity: str
    """What `flagged` means."""
    threshold_rule: str
    """How a score becomes a flag."""
    needs: str | None = None
    """Extra that must be installed."""
    card: str | None = None
    """Published system it implements, with its arXiv id."""
    weights_licence: str | None = None
    fits_on: tuple[str, ...] = ()
    """`("harmless",)` for one-class detectors, `("harmless", "harmful")` for supervised ones, empty
    otherwise."""
    opposes_harm: bool = False
    """True where a higher score means less harm, as of a refusal."""


@dataclass(slots=True, kw_only=True)
class DetectorContext:
    """Everything a factory may need; shared by all detectors of one run: one model serves them all."""

    model: str = "embedded"
    profile: Path | None = None
    threshold: float | None = None
    deep: bool = False
    offline: bool = False
    device: str | None = None
    batch_size: int | None = None
    seed: int = 0
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    """Objects made once for each run: models and capture engines, by id."""


@runtime_checkable
class Detector(Protocol):
    """Turns items into verdicts, one for one and in order.

    `detect` may hold back a bounded chunk in order to batch and sort, and must abstain rather than guess.
    """

    info: DetectorInfo

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """What decides a verdict beside the item: model, profile, settings. Names the run folder."""
        ...

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """Yield one verdict for each item, in order."""
        ...


class Fittable(Detector, Protocol):
    """A detector that is fitted on items and kept as a profile."""

    def fit(self, harmless: Sequence[Item], harmful: Sequence[Item] | None = None) -> Self:
        """Fit and return self. One-class detectors take no harmful items."""
        ...

    def save(self, folder: Path) -> None:
        """Write safetensors and a JSON manifest bound to model, positions, template and normalisation."""
        ...


def is_fittable(detector: Detector) -> TypeIs[Fittable]:
    """True when the detector can be fitted.

    Asked of the class: `isinstance` would read the instance's properties, and an unfitted detector has no
    identity.
    """
    return all(callable(getattr(type(detector), name, None)) for name in ("fit", "save"))


Factory = Callable[[DetectorContext], Detector]


@dataclass(frozen=True, slots=True)
class Registration:
    """One registered factory."""

    info: DetectorInfo
    factory: Factory


_registered: dict[str, Registration] = {}
_broken: dict[str, str] = {}
_is_loaded = False


def detector(
    name: str,
    *,
    summary: str,
    kinds: Iterable[Kind],
    cost: Cost,
    polarity: str,
    threshold_rule: str,
    languages: Sequence[str] = (),
    needs: str | None = None,
    card: str | None = None,
    weights_licence: str | None = None,
    fits_on: Sequence[str] = (),
    opposes_harm: bool = False,
) -> Callable[[Factory], Factory]:
    """Register a factory under a name. The arguments are the fields of `DetectorInfo`."""
    info = DetectorInfo(
        name=name,
        summary=summary,
        kinds=frozenset(kinds),
        languages=tuple(languages),
        cost=cost,
        polarity=polarity,
        threshold_rule=threshold_rule,
        needs=needs,
        card=card,
        weights_licence=weights_licence,
        fits_on=tuple(fits_on),
        opposes_harm=opposes_harm,
    )

    def register(factory: Factory) -> Factory:
        taken = _registered.get(name)
        if taken is not None and taken.factory.__module__ != factory.__module__:
            message = (
                f"two plug-ins register the detector '{name}': {taken.factory.__module__} and "
                f"{factory.__module__}"
            )
            raise UsageError(message)
        _registered[name] = Registration(info, factory)
        return factory

    return register


def _load_plugins() -> None:
    global _is_loaded
    if _is_loaded:
        return
    _is_loaded = True
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            point.load()
        except Exception as error:  # noqa: BLE001 - a broken third-party plug-in must not hide the others; it is listed by name
            _broken[point.name] = f"{type(error).__name__}: {error}"


def detectors() -> list[DetectorInfo]:
    """All registered detectors, by name."""
    _load_plugins()
    return [_registered[name].info for name in sorted(_registered)]


def broken_plugins() -> dict[str, str]:
    """Entry points that could not be loaded, with the error of each."""
    _load_plugins()
    return dict(_broken)


def lookup(name: str) -> Registration:
    """The registration under a name.

    Raises:
        UsageError: If there is none; the message lists near matches.
    """
    _load_plugins()
    found = _registered.get(name)
    if found is None:
        near = difflib.get_close_matches(name, _registered, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        failed = f" Plug-ins that failed to load: {', '.join(sorted(_broken))}." if _broken else ""
        message = f"no detector is called '{name}'.{hint}{failed} `tocsin detectors` lists them all."
        raise UsageError(message)
    return found


def create(name: str, context: DetectorContext) -> Detector:
    """Build a detector by name."""
    return lookup(name).factory(context)
