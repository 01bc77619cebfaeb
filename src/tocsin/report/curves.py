"""Further inline SVG charts: curves with intervals (also on logarithmic axes) and heat maps.

Rules as in `tocsin.report.charts`: no style attribute, no script, colours from CSS classes, labels escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.report.svg import WIDTH, label_room, label_text, padded_range, pos, svg, ticks

if TYPE_CHECKING:
    from markupsafe import Markup

SERIES_COLOURS = 6
"""Curves that can be told apart: the page has the classes `curve-0` to `curve-5`."""
HEAT_STEPS = 10
"""Shades of a heat map: the page has the classes `heat-0` to `heat-10`, for a share of the largest value."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, with an optional band around it."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()
    """Lower and upper end at each point; empty for none."""
    is_stepped: bool = False
    """Keep each value until the next point, as a distribution function does."""


def curves(
    name: str,
    title: str,
    lines: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    reference: float | None = None,
) -> Markup:
    """Lines on common axes. Points that are not finite, or not positive on a logarithmic axis, are left out.

    Args:
        name: Unique in the page.
        title: What is shown, for screen readers.
        lines: At most `SERIES_COLOURS` are told apart by colour.
        x_label: Meaning of the horizontal axis.
        y_label: Meaning of the vertical axis.
        log_x: Logarithmic horizontal axis.
        log_y: Logarithmic vertical axis.
        reference: Height of a dashed line, such as chance.
    """
    to_x, to_y = _scale(is_log=log_x), _scale(is_log=log_y)
    kept = [
        [
            (to_x(x), to_y(y), to_y(low), to_y(high))
            for (x, y), (low, high) in zip(
                line.points, line.band or [(y, y) for _, y in line.points], strict=True
            )
        ]
        for line in lines
    ]
    kept = [[point for point in points if all(map(math.isfinite, point))] for points in kept]
    heights = [value for points in kept for point in points for value in point[1:]]
    if reference is not None and math.isfinite(to_y(reference)):
        heights.append(to_y(reference))
    frame = _Frame(padded_range([point[0] for points in kept for point in points]), padded_range(heights))
    body = frame.axes(x_label, y_label, log_x=log_x, log_y=log_y)
    if reference is not None and math.isfinite(to_y(reference)):
        y = pos(frame.y(to_y(reference)))
        body.append(
            f'<line class="threshold" x1="{frame.left}" y1="{y}" x2="{WIDTH - frame.right}" y2="{y}"/>'
        )
    for i, (line, points) in enumerate(zip(lines, kept, strict=True)):
        css = f"curve-{i % SERIES_COLOURS}"
        if line.band and len(points) > 1:
            around = [(x, high) for x, _, _, high in points] + [(x, low) for x, _, low, _ in reversed(points)]
            corners = " ".join(f"{pos(frame.x(x))},{pos(frame.y(y))}" for x, y in around)
            body.append(f'<polygon class="band {css}" points="{corners}"/>')
        body.append(f'<path class="curve {css}" d="{_path(frame, points, is_stepped=line.is_stepped)}"/>')
    body += _legend([line.name for line in lines], frame.bottom)
    described = "; ".join(
        f"{line.name}: {len(points)} points" for line, points in zip(lines, kept, strict=True)
    )
    return svg(name, title, described or "no curves", frame.bottom + 18 * len(lines) + 4, body)


def heat_map(
    name: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    digits: int = 2,
) -> Markup:
    """A table of shaded cells with their values. Shades are shares of the largest absolute value.

    Args:
        name: Unique in the page.
        title: What is shown, for screen readers.
        rows: Labels.
        columns: Labels; long ones are turned upright.
        values: One sequence for each row. A value that is not finite is shown as a dash.
        digits: Decimals shown.
    """
    most = max((abs(value) for row in values for value in row if math.isfinite(value)), default=0.0) or 1.0
    left = label_room(rows)
    top = label_room(columns)
    size = (WIDTH - left) / max(len(columns), 1)
    tall = 24
    body = []
    for j, column in enumerate(columns):
        x = pos(left + (j + 0.5) * size + 4)
        body.append(
            f'<text class="tick" x="{x}" y="{top - 6}" transform="rotate(-90 {x} {top - 6})">'
            f"{label_text(column)}</text>"
        )
    for i, (label, row) in enumerate(zip(rows, values, strict=True)):
        y = top + i * tall
        body.append(
            f'<text class="label" x="{left - 8}" y="{y + 16}" text-anchor="end">{label_text(label)}</text>'
        )
        for j, value in enumerate(row):
            is_known = math.isfinite(value)
            shade = round(abs(value) / most * HEAT_STEPS) if is_known else 0
            css = f"heat-{shade}" + (" below" if is_known and value < 0 else "")
            body.append(
                f'<rect class="{css}" x="{pos(left + j * size)}" y="{y}" '
                f'width="{pos(size - 1)}" height="{tall - 1}"/>'
            )
            if size >= 30:
                text = f"{value:.{digits}f}" if is_known else "-"
                ink = "value on-dark" if shade > HEAT_STEPS // 2 else "value"
                body.append(
                    f'<text class="{ink}" x="{pos(left + (j + 0.5) * size)}" y="{y + 16}" '
                    f'text-anchor="middle">{text}</text>'
                )
    return svg(name, title, f"{len(rows)} rows, {len(columns)} columns", top + tall * len(rows) + 4, body)


class _Frame:
    """The box of a chart with two axes."""

    left, right, top, height = 64, 14, 12, 260
    bottom = top + height + 52

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self.xs, self.ys = xs, ys
        self.room = WIDTH - self.left - self.right

    def x(self, value: float) -> float:
        return self.left + (value - self.xs[0]) / (self.xs[1] - self.xs[0]) * self.room

    def y(self, value: float) -> float:
        return self.top + self.height - (value - self.ys[0]) / (self.ys[1] - self.ys[0]) * self.height

    def axes(self, x_label: str, y_label: str, *, log_x: bool, log_y: bool) -> list[str]:
        base, end = self.top + self.height, WIDTH - self.right
        body = []
        for tick in _ticks(self.xs, is_log=log_x):
            x = pos(self.x(tick))
            body.append(
                f'<line class="grid" x1="{x}" y1="{self.top}" x2="{x}" y2="{base}"/>'
                f'<text class="tick" x="{x}" y="{base + 17}" text-anchor="middle">'
                f"{_tick(tick, is_log=log_x)}</text>"
            )
        for tick in _ticks(self.ys, is_log=log_y):
            y = self.y(tick)
            body.append(
                f'<line class="grid" x1="{self.left}" y1="{pos(y)}" x2="{end}" y2="{pos(y)}"/>'
                f'<text class="tick" x="{self.left - 8}" y="{pos(y + 4)}" text-anchor="end">'
                f"{_tick(tick, is_log=log_y)}</text>"
            )
        middle = pos(self.top + self.height / 2)
        body.append(
            f'<text class="tick" x="{pos(self.left + self.room / 2)}" y="{base + 38}" '
            f'text-anchor="middle">{label_text(x_label, 70)}</text>'
            f'<text class="tick" x="14" y="{middle}" text-anchor="middle" '
            f'transform="rotate(-90 14 {middle})">{label_text(y_label, 44)}</text>'
        )
        return body


def _scale(*, is_log: bool) -> Callable[[float], float]:
    if is_log:
        return lambda value: math.log10(value) if value > 0 else math.nan
    return float


def _ticks(ends: tuple[float, float], *, is_log: bool) -> list[float]:
    if not is_log:
        return ticks(*ends)
    whole = [float(power) for power in range(math.ceil(ends[0]), math.floor(ends[1]) + 1)]
    return whole if len(whole) > 1 else ticks(*ends)


def _tick(value: float, *, is_log: bool) -> str:
    return f"{10**value:.3g}" if is_log else f"{value:g}"


def _path(frame: _Frame, points: Sequence[tuple[float, float, float, float]], *, is_stepped: bool) -> str:
    steps: list[str] = []
    for i, (x, y, _, _) in enumerate(points):
        px, py = pos(frame.x(x)), pos(frame.y(y))
        if i == 0:
            steps.append(f"M{px} {py}")
        elif is_stepped:
            steps.append(f"H{px}V{py}")
        else:
            steps.append(f"L{px} {py}")
    return "".join(steps)


def _legend(names: Sequence[str], top: float) -> list[str]:
    return [
        f'<line class="curve curve-{i % SERIES_COLOURS}" '
        f'x1="64" y1="{top + 18 * i}" x2="88" y2="{top + 18 * i}"/>'
        f'<text class="label" x="96" y="{top + 18 * i + 4}">{label_text(name, 50)}</text>'
        for i, name in enumerate(names)
    ]
