"""Small inline SVG charts: bars, an outcome strip, a histogram with thresholds, a scatter plot, intervals.

Each function returns markup that needs no style attribute and no script, so it passes a strict content
security policy; colours come from CSS classes of the page (`templates/report.css`). Every chart has a
`<title>` and a `<desc>` for screen readers, and equal input gives equal output. Labels are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tocsin.report.svg import (
    WIDTH,
    label_lines,
    label_room,
    label_text,
    number_text,
    padded_range,
    pos,
    svg,
    ticks,
    widen,
)
from tocsin.report.visible import visible

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: label, value, and the CSS class that colours it."""

    label: str
    value: float
    css: str = "flagged"


@dataclass(frozen=True, slots=True)
class Interval:
    """A point with the ends of its interval."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one class in a scatter plot."""

    name: str
    css: str
    points: Sequence[tuple[float, float]]


def bar_chart(name: str, title: str, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars with their values, in the given order.

    Args:
        name: Unique in the page; becomes part of element ids.
        title: What is shown, for screen readers.
        bars: Values of at least 0.
    """
    row, top = 26, 4
    longest = max((bar.value for bar in bars), default=0.0) or 1.0
    left = label_room([bar.label for bar in bars])
    room = WIDTH - left - 56
    body = []
    for i, bar in enumerate(bars):
        y = top + i * row
        width = max(bar.value / longest * room, 2.0 if bar.value > 0 else 0.0)
        body.append(
            f'<text class="label" x="{left - 8}" y="{y + 15}" text-anchor="end">'
            f"{label_text(bar.label)}</text>"
            f'<rect class="fill-{bar.css}" x="{left}" y="{y + 3}" width="{pos(width)}" height="16" rx="2"/>'
            f'<text class="value" x="{pos(left + width + 6)}" y="{y + 15}">{number_text(bar.value)}</text>'
        )
    described = "; ".join(f"{visible(bar.label)}: {number_text(bar.value)}" for bar in bars) or "no values"
    return svg(name, title, described, top * 2 + row * len(bars), body)


def strip(name: str, title: str, parts: Sequence[Bar]) -> Markup:
    """One bar divided in proportion; parts that are not zero stay at least 3 units wide."""
    shown = [part for part in parts if part.value > 0]
    total = sum(part.value for part in shown) or 1.0
    gap, least = 2.0, 3.0
    room = WIDTH - gap * max(len(shown) - 1, 0)
    widths = [max(part.value / total * room, least) for part in shown]
    # Widening the thin parts is paid for by the widest one.
    if widths:
        widths[widths.index(max(widths))] -= sum(widths) - room
    body, x = [], 0.0
    for part, width in zip(shown, widths, strict=True):
        body.append(
            f'<rect class="fill-{part.css}" x="{pos(x)}" y="0" width="{pos(width)}" height="18" rx="2"/>'
        )
        x += width + gap
    if not shown:
        body.append(f'<rect class="fill-empty" x="0" y="0" width="{WIDTH}" height="18" rx="2"/>')
    described = "; ".join(f"{visible(part.label)}: {number_text(part.value)}" for part in shown) or "no items"
    return svg(name, title, described, 18, body, fills_box=True)


def histogram(
    name: str,
    title: str,
    below: Sequence[int],
    above: Sequence[int],
    thresholds: Sequence[float] = (),
) -> Markup:
    """Counts of scores in equal bins from 0 to 1, flagged ones stacked on the others.

    The height axis is the square root of the count, since a few flagged items would vanish beside many
    others; the axis is labelled with counts.

    Args:
        name: Unique in the page.
        title: What is shown, for screen readers.
        below: Count of not flagged scores for each bin.
        above: Count of flagged scores for each bin; same length.
        thresholds: Scores at which a dashed line is drawn.
    """
    left, right, top, height, bottom = 52, 12, 26, 170, 44
    room = WIDTH - left - right
    totals = [b + a for b, a in zip(below, above, strict=True)]
    most = max(totals, default=0) or 1
    base = top + height

    def level(count: float) -> float:
        return base - math.sqrt(count / most) * height

    body = []
    last = -math.inf
    for tick in _count_ticks(most):
        if level(tick) - last < 16:
            continue
        last = level(tick)
        y = pos(level(tick))
        body.append(
            f'<line class="grid" x1="{left}" y1="{y}" x2="{WIDTH - right}" y2="{y}"/>'
            f'<text class="tick" x="{left - 8}" y="{pos(level(tick) + 4)}" text-anchor="end">{tick:,}</text>'
        )
    step = room / max(len(totals), 1)
    for i, total in enumerate(totals):
        x, width = left + i * step + 0.5, step - 1
        for css, low, high in (("unflagged", 0, below[i]), ("flagged", below[i], total)):
            if high > low:
                tall = max(level(low) - level(high), 1.0)
                body.append(
                    f'<rect class="fill-{css}" x="{pos(x)}" y="{pos(level(low) - tall)}" '
                    f'width="{pos(width)}" height="{pos(tall)}"/>'
                )
    body.append(f'<line class="axis" x1="{left}" y1="{base}" x2="{WIDTH - right}" y2="{base}"/>')
    for i in range(5):
        x = left + room * i / 4
        body.append(f'<text class="tick" x="{pos(x)}" y="{base + 17}" text-anchor="middle">{i / 4:g}</text>')
    middle = pos(left + room / 2)
    body.append(f'<text class="tick" x="{middle}" y="{base + 38}" text-anchor="middle">score</text>')
    for threshold in thresholds:
        x = left + room * min(max(threshold, 0.0), 1.0)
        anchor = "end" if x > WIDTH - 120 else "start"
        shift = -6 if anchor == "end" else 6
        body.append(
            f'<line class="threshold" x1="{pos(x)}" y1="{top - 16}" x2="{pos(x)}" y2="{base}"/>'
            f'<text class="label" x="{pos(x + shift)}" y="{top - 8}" text-anchor="{anchor}">'
            f"threshold {threshold:.3g}</text>"
        )
    lines = ", ".join(f"{threshold:.3g}" for threshold in thresholds)
    described = f"{sum(below):,} scores not flagged and {sum(above):,} flagged" + (
        f"; threshold at {lines}" if lines else ""
    )
    return svg(name, title, described, base + bottom, body)


def scatter(
    name: str, title: str, series: Sequence[Series], *, x_label: str, y_label: str, is_square: bool = False
) -> Markup:
    """Points in a plane with axes that fit the data. Points that are not finite are left out.

    Args:
        name: Unique in the page.
        title: What is shown, for screen readers.
        series: Drawn in order, the last on top.
        x_label: Meaning of the horizontal axis.
        y_label: Meaning of the vertical axis.
        is_square: Same scale on both axes, as polar plots need.
    """
    kept = [
        Series(s.name, s.css, [p for p in s.points if math.isfinite(p[0]) and math.isfinite(p[1])])
        for s in series
    ]
    xs = [x for s in kept for x, _ in s.points]
    ys = [y for s in kept for _, y in s.points]
    left, right, top, bottom = 64, 14, 12, 46
    height = 300
    room = WIDTH - left - right
    (x0, x1), (y0, y1) = padded_range(xs), padded_range(ys)
    if is_square:
        unit = max((x1 - x0) / room, (y1 - y0) / height)
        x0, x1 = widen(x0, x1, unit * room)
        y0, y1 = widen(y0, y1, unit * height)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * room, top + height - (y - y0) / (y1 - y0) * height

    body = []
    for tick in ticks(x0, x1):
        px, _ = place(tick, y0)
        body.append(
            f'<line class="grid" x1="{pos(px)}" y1="{top}" x2="{pos(px)}" y2="{top + height}"/>'
            f'<text class="tick" x="{pos(px)}" y="{top + height + 17}" text-anchor="middle">{tick:g}</text>'
        )
    for tick in ticks(y0, y1):
        _, py = place(x0, tick)
        body.append(
            f'<line class="grid" x1="{left}" y1="{pos(py)}" x2="{WIDTH - right}" y2="{pos(py)}"/>'
            f'<text class="tick" x="{left - 8}" y="{pos(py + 4)}" text-anchor="end">{tick:g}</text>'
        )
    for s in kept:
        dots = "".join(
            f'<circle cx="{pos(px)}" cy="{pos(py)}" r="3"/>' for px, py in (place(x, y) for x, y in s.points)
        )
        body.append(f'<g class="dots fill-{s.css}">{dots}</g>')
    middle = top + height / 2
    body.append(
        f'<text class="tick" x="{pos(left + room / 2)}" y="{top + height + 38}" text-anchor="middle">'
        f"{label_text(x_label, 80)}</text>"
        f'<text class="tick" x="14" y="{pos(middle)}" text-anchor="middle" '
        f'transform="rotate(-90 14 {pos(middle)})">{label_text(y_label, 50)}</text>'
    )
    described = "; ".join(f"{len(s.points):,} points {s.name}" for s in kept)
    return svg(name, title, described, top + height + bottom, body)


def polar(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(radius, angle in radians) as plane coordinates."""
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in points]


def intervals(
    name: str, title: str, rows: Sequence[Interval], *, low: float = 0.0, high: float = 1.0
) -> Markup:
    """Points with horizontal interval bars on a common axis from `low` to `high`."""
    labels = [label_lines(entry.label) for entry in rows]
    row, top, right = (28 if all(len(lines) == 1 for lines in labels) else 40), 4, 128
    left = label_room([entry.label for entry in rows])
    room = WIDTH - left - right
    base = top + row * len(rows)

    def place(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * room

    body = []
    for tick in ticks(low, high):
        x = pos(place(tick))
        body.append(
            f'<line class="grid" x1="{x}" y1="{top}" x2="{x}" y2="{base}"/>'
            f'<text class="tick" x="{x}" y="{base + 17}" text-anchor="middle">{tick:g}</text>'
        )
    for i, entry in enumerate(rows):
        y = top + row * i + row / 2
        for j, line in enumerate(labels[i]):
            under = y + 4 + 15 * (j - (len(labels[i]) - 1) / 2)
            body.append(
                f'<text class="label" x="{left - 8}" y="{pos(under)}" text-anchor="end">{line}</text>'
            )
        body.append(
            f'<line class="interval" x1="{pos(place(entry.low))}" y1="{pos(y)}" '
            f'x2="{pos(place(entry.high))}" y2="{pos(y)}"/>'
            f'<circle class="fill-accent" cx="{pos(place(entry.value))}" cy="{pos(y)}" r="4.5"/>'
            f'<text class="value" x="{WIDTH - right + 12}" y="{pos(y + 4)}">'
            f"{entry.value:.3g} [{entry.low:.3g}, {entry.high:.3g}]</text>"
        )
    described = "; ".join(f"{visible(r.label)}: {r.value:.3g} from {r.low:.3g} to {r.high:.3g}" for r in rows)
    return svg(name, title, described or "no values", base + 24, body)


def _count_ticks(most: int) -> list[int]:
    """Up to four round counts whose square roots are well apart."""
    ticks = [most]
    while len(ticks) < 4 and ticks[-1] >= 4:
        ticks.append(_round_down(ticks[-1] / 3.5))
    return [tick for tick in dict.fromkeys(ticks) if tick > 0]


def _round_down(value: float) -> int:
    power: int = 10 ** math.floor(math.log10(max(value, 1)))
    return max(step * power for step in (1, 2, 5) if step * power <= max(value, 1))
