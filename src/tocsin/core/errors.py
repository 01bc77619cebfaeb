"""The one exception tree of the package.

::

    TocsinError                 anything that can go wrong for a user; carries an exit code
    ├── UsageError              arguments that cannot be used together, unknown names, bad values   (exit 2)
    ├── InputError              a whole input that cannot be read; carries path and line             (exit 2)
    ├── ModelError              a model that is missing, damaged, unsupported or not the expected one (exit 2)
    ├── ProfileError            a fitted profile that is damaged or belongs to another model         (exit 2)
    ├── FitError                data from which nothing can be fitted                                (exit 2)
    ├── RunError                a run folder that belongs to another run or cannot be written        (exit 2)
    └── MissingExtraError       an optional dependency is not installed; names the install line      (exit 3)

A message has three parts: what was expected, what came, what to do. Text that is being examined never
appears in a message. One unreadable *row* is not an exception: it becomes an abstention (see `Reason`).
"""

from __future__ import annotations

from pathlib import Path

EXIT_OK = 0
EXIT_FLAGGED = 1
EXIT_USAGE = 2
EXIT_MISSING_EXTRA = 3
EXIT_ABSTAINED = 4
EXIT_INTERRUPTED = 130


class TocsinError(Exception):
    """Anything that can go wrong for a user. Printed without a traceback by the command line."""

    exit_code: int = EXIT_USAGE

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self.line = line
        where = ""
        if path is not None:
            where = f"{path}: " if line is None else f"{path} line {line}: "
        super().__init__(where + message)


class UsageError(TocsinError):
    """Arguments that cannot be used: unknown names, values out of range, options that exclude each other."""


class InputError(TocsinError):
    """A whole input that cannot be read."""


class ModelError(TocsinError):
    """A model that is missing, damaged, of an unsupported kind, or not the one expected."""


class ProfileError(TocsinError):
    """A fitted profile that is damaged, or was fitted with another model, template or position."""


class FitError(TocsinError):
    """Data from which nothing can be fitted: one class, too few items, not-a-number activations."""


class RunError(TocsinError):
    """A run folder that belongs to another run, is damaged, or cannot be written."""


class MissingExtraError(TocsinError):
    """An optional dependency is not installed."""

    exit_code = EXIT_MISSING_EXTRA

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        self.purpose = purpose
        super().__init__(
            f"{purpose} needs the optional extra '{extra}'. Install it with: pip install 'tocsin[{extra}]'"
        )
