"""Everything that can be asked of a scan, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from pydantic import JsonValue

from tocsin.api.panel import Panel
from tocsin.core.errors import UsageError
from tocsin.core.records import Kind
from tocsin.core.registry import DetectorContext
from tocsin.models.spec import parse_model

Engine = Literal["embedded", "spark"]
DEFAULT_MASTER = "local[*]"
"""Every core of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """Everything that can be asked of a scan. `scan` documents each."""

    detectors: tuple[str, ...] = ()
    profile: Path | None = None
    model: str = "embedded"
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    deep: bool = False
    text: str | None = None
    prompt: str | None = None
    kind: Kind | None = None
    ignore: tuple[str, ...] = ()
    """Patterns, those of `ignore_file` included."""
    ignore_file: Path | None = None
    baseline: Path | None = None
    measured: Path | None = None
    include_text: bool = False
    fresh: bool = False
    out: Path | None = None
    offline: bool = False
    device: str | None = None
    batch_size: int | None = None
    seed: int = 0
    engine: Engine = "embedded"
    master: str = DEFAULT_MASTER

    def deciding(self) -> dict[str, JsonValue]:
        """Settings that can change a verdict, as JSON values. Files among them are known by their hashes."""
        return {
            "detectors": list(self.detectors),
            "model": self.model,
            "threshold": self.threshold,
            "thresholds": dict(self.thresholds),
            "options": {name: dict(values) for name, values in self.options.items()},
            "deep": self.deep,
            "text": self.text,
            "prompt": self.prompt,
            "kind": self.kind.value if self.kind else None,
            "ignore": list(self.ignore),
            "device": self.device,
            "seed": self.seed,
        }

    def settings(self) -> dict[str, JsonValue]:
        """All settings, as JSON values."""
        return {
            **self.deciding(),
            "profile": str(self.profile) if self.profile else None,
            "ignore_file": str(self.ignore_file) if self.ignore_file else None,
            "baseline": str(self.baseline) if self.baseline else None,
            "measured": str(self.measured) if self.measured else None,
            "include_text": self.include_text,
            "offline": self.offline,
            "batch_size": self.batch_size,
            "engine": self.engine,
            "master": self.master if self.engine == "spark" else None,
        }

    def context(self, name: str, shared: dict[str, object]) -> DetectorContext:
        """What the factory of a detector is given."""
        return DetectorContext(
            model=self.model,
            profile=self.profile,
            threshold=self.thresholds.get(name, self.threshold),
            deep=self.deep,
            offline=self.offline,
            device=self.device,
            batch_size=self.batch_size,
            seed=self.seed,
            options={name: dict(values) for name, values in self.options.items()},
            shared=shared,
        )


def check_options(options: ScanOptions, panel: Panel) -> None:
    """Refuse what cannot be used before any work is done.

    Raises:
        UsageError: If a threshold or option belongs to no detector of the scan, or is out of range.
    """
    names = {info.name for info in panel.infos}
    for given, what in ((options.thresholds, "threshold"), (options.options, "option")):
        stray = sorted(set(given) - names)
        if stray:
            used = ", ".join(sorted(names))
            message = f"the {what} for '{stray[0]}' has no detector to go to. This scan uses {used}."
            raise UsageError(message)
    values = [*options.thresholds.values(), *([] if options.threshold is None else [options.threshold])]
    for value in values:
        if not 0 <= value <= 1:
            message = f"expected a threshold from 0 to 1, got {value:g}."
            raise UsageError(message)
    parse_model(options.model)
    if options.engine not in get_args(Engine):
        message = f"expected an engine ({', '.join(get_args(Engine))}), got '{options.engine}'."
        raise UsageError(message)
    if options.engine != "spark" and options.master != DEFAULT_MASTER:
        message = "a Spark master is given, but the engine is not spark. Add --engine spark."
        raise UsageError(message)


def kind_of(kind: Kind | str | None) -> Kind | None:
    """A kind by its name.

    Raises:
        UsageError: If there is none of that name.
    """
    if kind is None or isinstance(kind, Kind):
        return kind
    try:
        return Kind(kind)
    except ValueError as error:
        message = f"expected a kind ({', '.join(Kind)}), got '{kind}'."
        raise UsageError(message) from error
