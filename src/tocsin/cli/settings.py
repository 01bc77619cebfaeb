"""Where each option's value comes from: argument, then environment, then TOML file, then default."""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts.token import Token
from pydantic import JsonValue

from tocsin.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument, ArgumentCollection

PREFIX = "TOCSIN_"
ARGUMENT, ENVIRONMENT, DEFAULT = "argument", "environment", "default"
_NOT_KEPT = frozenset({"config", "show-config", "json"})
"""Options that steer one call: they are read from the command line (and `--config` from the environment)."""


class Settings:
    """Fills in options that the command line left out, and remembers where every value came from.

    An option `--batch-size` is `TOCSIN_BATCH_SIZE` in the environment (several values of one option are
    parted by commas) and `batch-size` in the table of its command, such as `[scan]`, of the TOML file.
    """

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}
        """By option name without dashes, such as `batch-size`."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Called by cyclopts once the command line has been read."""
        del app
        options = {name: each for each in arguments if (name := _option(each)) is not None}
        self.sources = {name: ARGUMENT if each.tokens else DEFAULT for name, each in options.items()}
        for name, option in options.items():
            variable = PREFIX + name.upper().replace("-", "_")
            value = os.environ.get(variable)
            if value and not option.tokens and (name == "config" or name not in _NOT_KEPT):
                self._fill(
                    name, option, value.split(",") if _is_many(option) else [value], ENVIRONMENT, variable
                )
        config = options.get("config")
        if config is None or not config.tokens:
            return
        path = Path(config.tokens[0].value)
        for name, values in read_config(
            path, commands[0] if commands else "", options.keys() - _NOT_KEPT
        ).items():
            option = options[name]
            if not option.tokens:
                if len(values) != 1 and not _is_many(option):
                    message = f"expected one value for '{name}', got {len(values)}. Give a single value."
                    raise UsageError(message, path=path)
                self._fill(name, option, values, str(path), name)

    def _fill(self, name: str, option: Argument, values: list[str], source: str, keyword: str) -> None:
        for index, value in enumerate(values):
            option.append(Token(keyword=keyword, value=value.strip(), source=source, index=index))
        self.sources[name] = source


def read_config(path: Path, command: str, known: set[str]) -> dict[str, list[str]]:
    """The table of one command in a TOML file, each value as words of a command line.

    Raises:
        InputError: If the file cannot be read or is not TOML.
        UsageError: If it sets an option that the command does not have, or holds settings outside a table.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        message = f"expected a settings file, got: {(error.strerror or 'an error').lower()}. Check --config."
        raise InputError(message, path=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"expected TOML, got a syntax error ({error}). Correct the file."
        raise InputError(message, path=path) from error
    for name, table in document.items():
        if not isinstance(table, dict):
            message = f"'{name}' stands outside a table. Put it under [{command or 'scan'}]."
            raise UsageError(message, path=path)
    values: dict[str, list[str]] = {}
    for name, value in document.get(command, {}).items():
        option = name.replace("_", "-")
        if option not in known:
            message = f"[{command}] sets '{name}', which is not an option of `tocsin {command}`. "
            message += f"Expected one of: {', '.join(sorted(known))}."
            raise UsageError(message, path=path)
        given = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float | bool) for each in given):
            message = f"[{command}] expected a text, a number, true, false or a list of them for '{name}', "
            message += "got a table or a date. Correct it."
            raise UsageError(message, path=path)
        values[option] = [str(each).lower() if isinstance(each, bool) else str(each) for each in given]
    return values


def resolved(bound: inspect.BoundArguments) -> dict[str, JsonValue]:
    """Every option of a parsed command line by its name, as JSON values; groups of options are opened."""
    bound.apply_defaults()
    values: dict[str, JsonValue] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if is_dataclass(value) and not isinstance(value, type):
            values |= {_dashed(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
        else:
            values[_dashed(name)] = _plain(value)
    return values


def show_config(
    command: str, values: Mapping[str, JsonValue], sources: Mapping[str, str], *, as_json: bool
) -> str:
    """Resolved settings and where each came from, as TOML that `--config` reads, or as JSON.

    Args:
        command: Table of the file.
        values: By option name.
        sources: By option name.
        as_json: JSON instead of TOML.
    """
    kept = {name: value for name, value in values.items() if name not in _NOT_KEPT}
    if as_json:
        rows = {name: {"value": value, "source": sources.get(name, DEFAULT)} for name, value in kept.items()}
        return json.dumps(rows, indent=1) + "\n"
    lines = [f"[{command}]"]
    for name, value in kept.items():
        setting = f"# {name} =" if value is None else f"{name} = {json.dumps(value)}"
        lines.append(f"{setting}  # {sources.get(name, DEFAULT)}")
    return "\n".join(lines) + "\n"


def _dashed(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _plain(value: object) -> JsonValue:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def _option(argument: Argument) -> str | None:
    """Name of an option without dashes; None for positional arguments and for groups of options."""
    return argument.name[2:] if argument.name.startswith("--") else None


def _is_many(option: Argument) -> bool:
    consumes_all: bool = option.token_count()[1]
    return consumes_all
