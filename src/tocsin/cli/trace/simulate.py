"""`tocsin trace simulate`."""

from __future__ import annotations

from pathlib import Path

from tocsin.api.trace import Simulation
from tocsin.api.trace import simulate as simulate_
from tocsin.cli.show import write


def simulate(
    *,
    messages: int,
    groups: int,
    out: Path,
    seed: int = 0,
    copies: float = 0.3,
    edits: float = 0.05,
    sampling: float = 1.0,
) -> None:
    """Simulate a message log.

    Args:
        messages: Messages to write.
        groups: Groups that are seen.
        out: Folder for messages.parquet and truth.parquet.
        seed: Seed of the random numbers.
        copies: Share of messages that are copies in a cascade, from 0 to 1.
        edits: Largest share of characters edited in a copy, from 0 to 1.
        sampling: Share of all groups that is seen, in (0, 1].
    """
    counts = simulate_(Simulation(messages, groups, seed, copies, edits, sampling), out)
    write([", ".join(f"{value} {name}" for name, value in counts.items()) + "\n"])
