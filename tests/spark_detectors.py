"""Detectors that say where they work, or fail there. Workers find them as a plug-in of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from letters import TESTS
from tocsin.core.errors import MissingExtraError
from tocsin.core.records import Item, Kind, Provenance, Verdict
from tocsin.core.registry import Cost, DetectorContext, detector, lookup

NAME = "witness"


class Witness:
    """Writes its process and the item into a folder, and fails on some texts."""

    def __init__(self, context: DetectorContext) -> None:
        self.info = lookup(NAME).info
        options = context.options.get(NAME)
        self.folder = Path(str(options["folder"])) if isinstance(options, Mapping) else None
        self._note("opened", str(context.offline))

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        return {"version": "1"}

    def _note(self, what: str, value: str) -> None:
        if self.folder is not None:
            with (self.folder / f"{what}-{os.getpid()}").open("a") as file:
                file.write(f"{value}\n")

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        for item in items:
            self._note("saw", str(item.origin.ordinal))
            if item.text.startswith("raise"):
                raise ValueError(item.text)
            if item.text.startswith("extra"):
                raise MissingExtraError("local", "This detector")
            if item.text.startswith("die"):
                os._exit(3)
            yield Verdict(
                key=item.key,
                detector=NAME,
                flagged=False,
                label="seen",
                provenance=Provenance(detector_version="1", settings={"third": 1 / 3}),
            )


@detector(
    NAME,
    summary="Says where it works",
    kinds={Kind.PROMPT},
    cost=Cost.FORWARD_PASS,
    polarity="never flags",
    threshold_rule="none",
)
def witness(context: DetectorContext) -> Witness:
    return Witness(context)


def install(folder: Path) -> str:
    """Make this module a plug-in in a folder; the PYTHONPATH with which workers find it."""
    info = folder / "spark_detectors-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spark-detectors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tocsin]\nwitness = spark_detectors\nletters = letters\n")
    return os.pathsep.join([str(folder), str(TESTS), os.environ.get("PYTHONPATH", "")])
