"""The command line. `main` is the entry point of the `tocsin` command; each command is a module of its own.

Exit codes: 0 nothing flagged, 1 something flagged, 2 bad arguments or input, 3 a missing extra, 4 more items
unjudged than `--max-abstain` allows, 130 interrupted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import suppress

from tocsin.core.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, TocsinError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words after `tocsin`; those of this process when None.

    Returns:
        The exit code. A user's mistake is printed in one message; a bug keeps its traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end a scan.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(words)
    except TocsinError as error:
        _say(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        from tocsin.cli.show import drop_stdout

        drop_stdout()
        return EXIT_OK
    except KeyboardInterrupt:
        _say("interrupted.")
        return EXIT_INTERRUPTED


def _run(words: list[str]) -> int:
    from cyclopts import CycloptsError

    from tocsin.cli.app import app, invocation, settings
    from tocsin.cli.settings import resolved, show_config

    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        verb = f" {words[0]}" if words and words[0] in app else ""
        _say(f"error: {str(error).rstrip()}\n  `tocsin{verb} --help` lists what can be given.")
        return EXIT_USAGE
    invocation.argv = ("tocsin", *words)
    values = resolved(bound)
    if values.get("show-config") is True:
        as_json = values.get("json") is True or values.get("format") == "json"
        print(show_config(words[0], values, settings.sources, as_json=as_json), end="")  # noqa: T201
        return EXIT_OK
    code = command(*bound.args, **bound.kwargs)
    sys.stdout.flush()
    return code if isinstance(code, int) else EXIT_OK


def _say(text: str) -> None:
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place where errors are shown
