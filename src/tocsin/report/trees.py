"""Pictures of cascades: one dot for each event, its distance from the source to the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tocsin.report.svg import WIDTH, pos, svg

if TYPE_CHECKING:
    from markupsafe import Markup

_MARGIN = 10.0
_TALLEST = 320.0
_ROW = 12.0


def tree(name: str, title: str, parents: Sequence[int]) -> Markup:
    """A tree or forest, laid out by depth and with leaves on rows of their own.

    Args:
        name: Unique in the page.
        title: What is shown, for screen readers.
        parents: Place of each event's parent, lower than its own; -1 for a root.

    Raises:
        ValueError: If a parent does not come before its child.
    """
    depth = [0] * len(parents)
    children: list[list[int]] = [[] for _ in parents]
    for place, parent in enumerate(parents):
        if parent >= place:
            message = f"expected a parent before event {place}, got {parent}"
            raise ValueError(message)
        if parent >= 0:
            depth[place] = depth[parent] + 1
            children[parent].append(place)
    rows = _rows(parents, children)
    deepest, n_rows = max(depth, default=0), max(rows, default=0.0) + 1
    height = min(_TALLEST, n_rows * _ROW + 2 * _MARGIN)
    step_x = (WIDTH - 2 * _MARGIN) / max(deepest, 1)
    step_y = (height - 2 * _MARGIN) / max(n_rows - 1, 1)
    at = [(pos(_MARGIN + step_x * depth[i]), pos(_MARGIN + step_y * rows[i])) for i in range(len(parents))]
    radius = pos(max(1.2, min(4.0, step_y / 2.5)))
    body = [
        f'<line class="branch" x1="{at[parent][0]}" y1="{at[parent][1]}" x2="{at[i][0]}" y2="{at[i][1]}"/>'
        for i, parent in enumerate(parents)
        if parent >= 0
    ]
    body += [
        f'<circle class="{"root" if parents[i] < 0 else "node"}" cx="{x}" cy="{y}" r="{radius}"/>'
        for i, (x, y) in enumerate(at)
    ]
    return svg(name, title, f"{len(parents)} events, depth {deepest}", height, body)


def _rows(parents: Sequence[int], children: Sequence[Sequence[int]]) -> list[float]:
    """Row of each event: leaves in the order of a walk, others in the middle of their children."""
    rows = [0.0] * len(parents)
    waiting = [i for i in reversed(range(len(parents))) if parents[i] < 0]
    used = 0
    while waiting:
        place = waiting.pop()
        if not children[place]:
            rows[place] = float(used)
            used += 1
        waiting.extend(reversed(children[place]))
    # Children have higher places than their parents.
    for place in reversed(range(len(parents))):
        if children[place]:
            ends = [rows[child] for child in children[place]]
            rows[place] = (min(ends) + max(ends)) / 2
    return rows
