"""From a template and its values to one self-contained HTML file.

The file needs no network and runs no script but the page's own: the content security policy allows the one
style block and the one script block by their SHA-256 and nothing else. Every value is escaped by Jinja2, and
every plain string goes through `visible` first, so that no template can forget it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.core.errors import RunError
from tocsin.report.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_SHORT = 60
"""Characters of a name shown where space is scarce."""


def write_page(path: Path, template: str, values: Mapping[str, object]) -> None:
    """Render a template of this room into a file, which appears complete or not at all.

    Args:
        path: File to write; its folder is made when missing.
        template: File name in `templates/`.
        values: Names that the template uses; a missing one is an error.

    Raises:
        RunError: If the file cannot be written.
    """
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    _write(path, page.generate(**values, style=_markup(style), script=_markup(script), policy=policy))


def _write(path: Path, pieces: Iterable[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        message = f"expected a folder that can be written, got '{error.strerror}'. Choose another with --out."
        raise RunError(message, path=visible(str(path))) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        # mkstemp makes files private; a report has the same rights as any other new file.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException as error:
        with suppress(OSError):
            Path(temporary).unlink()
        if isinstance(error, OSError):
            message = (
                f"the report could not be written: {error.strerror}. Make room, then repeat the command."
            )
            raise RunError(message, path=visible(str(path))) from error
        raise


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["plural"] = plural
    environment.filters["sentence"] = _sentence
    environment.filters["short"] = lambda value: visible(value, limit=_SHORT)
    return environment


def _finalize(value: object) -> object:
    """Plain strings are made visible; markup of our own charts and numbers pass."""
    return visible(value) if type(value) is str else value


def _sentence(text: str) -> str:
    """Capital and full stop, for phrases that detectors give with or without them."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def plural(count: int, one: str, many: str = "") -> str:
    """A number with its noun.

    Example:
        >>> plural(1, "item"), plural(1200, "item")
        ('1 item', '1,200 items')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


@cache
def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _markup(text: str) -> object:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - a file of this package
