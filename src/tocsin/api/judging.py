"""The loop behind every command that shows items to registered detectors: chunked, resumable, in order.

Items are read in chunks, every detector sees a chunk before the next is read, and each verdict is handed on
as it comes. What a run folder holds already is not asked again: a killed command loses and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from pydantic import JsonValue

from tocsin.api.panel import Panel
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.core.records import Item
from tocsin.core.registry import Detector, DetectorContext
from tocsin.core.results import Result
from tocsin.core.runs import Run

CHUNK = 256
"""Items read at a time. Fixed, so that a continued run makes the same chunks."""


class Ledger(Protocol):
    """What the loop asks and tells whoever keeps its verdicts; a `Run` is one."""

    def is_done(self, detector: str, ordinal: int) -> bool:
        """Whether this detector's verdict on the item with this running number is there already."""
        ...

    def note_detector(self, name: str, identity: Mapping[str, JsonValue]) -> None:
        """Told what a detector is made of, once it is built."""
        ...

    def flush(self) -> None:
        """Told after each chunk and detector."""
        ...


class Judging:
    """Detectors at work on items, with or without a run folder.

    Args:
        names: Detectors asked for; empty for the defaults of a scan.
        context: Makes the context of a detector when it is first needed.
        progress: Told when a model is loaded and how far it has come.

    Raises:
        UsageError: If a name is unknown or given twice.
    """

    def __init__(
        self,
        names: Sequence[str],
        context: Callable[[str], DetectorContext],
        progress: ProgressCallback = no_progress,
    ) -> None:
        self._progress = progress
        self._built: list[Detector] = []
        """Detectors that were built and are not noted in the run yet."""

        def loading(name: str) -> DetectorContext:
            progress(Progress("loading", 0, None, name))
            return context(name)

        self.panel = Panel(names, loading, self._built.append)

    def results(
        self, items: Iterable[Item], run: Ledger | None, *, total: int | None = None
    ) -> Iterator[Result]:
        """Verdicts that are not in the run yet, chunk by chunk and detector by detector.

        Args:
            items: In a fixed order.
            run: Asked what is done already, and told what each detector is made of. Results are not added
                to it here.
            total: Verdicts in all, where that is known.
        """
        names = [info.name for info in self.panel.infos]
        done = 0
        stream = iter(items)
        while chunk := list(islice(stream, CHUNK)):
            for name in names:
                wanted = [item for item in chunk if self.panel.reads(name, item)]
                missing = [
                    item for item in wanted if run is None or not run.is_done(name, item.origin.ordinal)
                ]
                done += len(wanted) - len(missing)
                self._progress(Progress("scanning", done, total, name))
                for item, verdict in zip(missing, self.panel.judge(name, missing), strict=True):
                    self._note_built(run)
                    yield Result.of(item, verdict)
                    done += 1
                    self._progress(Progress("scanning", done, total, name))
                if run is not None:
                    run.flush()

    def fill(self, items: Iterable[Item], run: Run, *, total: int | None = None) -> None:
        """Add every missing verdict to the run and finish it. Does nothing to a finished run."""
        if run.was_finished:
            return
        for result in self.results(items, run, total=total):
            run.append(result)
        run.finish()

    def _note_built(self, run: Ledger | None) -> None:
        while self._built:
            detector = self._built.pop()
            if run is not None:
                run.note_detector(detector.info.name, detector.identity)
