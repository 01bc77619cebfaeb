"""How far a long command has come, for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Stage = Literal["loading", "scanning", "training", "reporting"]


class Progress(NamedTuple):
    """One report of progress."""

    stage: Stage
    """`loading` a model, `scanning` items, `training` a judge, or writing the report."""
    done: int
    """Items finished."""
    total: int | None
    """Items in all, where that is known; an upper bound for some text files."""
    what: str = ""
    """What is being waited for, such as the name of a detector."""


ProgressCallback = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """Shows nothing."""
    del progress
