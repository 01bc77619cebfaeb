"""What all charts share: the frame of an inline SVG, numbers and labels in it, and axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from tocsin.report.visible import visible

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH = 480
"""Width of the drawing in its own units; the page scales it."""
LONGEST_LABEL = 28
LETTER = 7.3
"""Space kept for one character of a label; generous for the fonts of the page at 13 units."""


def svg(
    name: str, title: str, description: str, height: float, body: Sequence[str], *, fills_box: bool = False
) -> Markup:
    """The frame of a chart, with what screen readers say.

    Args:
        name: Unique in the page; becomes part of element ids.
        title: What is shown.
        description: The values in words.
        height: In units of the drawing.
        body: Elements, already escaped.
        fills_box: Stretch with the box instead of keeping proportions.
    """
    from markupsafe import Markup

    fit = ' preserveAspectRatio="none"' if fills_box else ""
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {pos(height)}"{fit} role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(visible(title))}</title>'
        f'<desc id="{name}-desc">{escape(visible(description))}</desc>'
    )
    return Markup(head + "".join(body) + "</svg>")  # noqa: S704 - labels are escaped, the rest is numbers


def pos(number: float) -> str:
    """A coordinate: two decimals are below a pixel and keep the page small."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def number_text(value: float) -> str:
    """A value beside its mark: whole numbers as they are, others to three digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def label_text(text: str, limit: int = LONGEST_LABEL) -> str:
    """A label made visible, cut and escaped."""
    return escape(visible(text, limit=limit))


def label_lines(text: str) -> list[str]:
    """A visible, escaped label broken at spaces into at most two lines of `LONGEST_LABEL` characters.

    What does not fit into two lines is cut and marked, as `label_text` does.
    """
    shown = visible(text)
    first, *more = textwrap.wrap(shown, LONGEST_LABEL, break_on_hyphens=False) or [""]
    rest = shown[len(first) :].strip() if more else ""
    return [escape(first), *([label_text(rest)] if rest else [])]


def label_room(labels: Sequence[str]) -> int:
    """Width of the column of labels: the longest one, up to `LONGEST_LABEL` characters."""
    longest = max((len(visible(label)) for label in labels), default=0)
    return math.ceil(min(longest, LONGEST_LABEL) * LETTER) + 12


def padded_range(values: Sequence[float]) -> tuple[float, float]:
    """Ends with a margin of 5 %; a constant is put in the middle of a range of 1."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or 0.5
    return low - margin, high + margin


def widen(low: float, high: float, size: float) -> tuple[float, float]:
    """A range of the given size around the middle of another."""
    middle = (low + high) / 2
    return middle - size / 2, middle + size / 2


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers inside a range."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]
