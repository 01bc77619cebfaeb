"""Reader of the text files of SNAP's netinf: a list of nodes, a blank line, and one cascade a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tocsin.core.errors import InputError
from tocsin.trace.cascades import Cascades


def read_netinf(path: Path) -> Cascades:
    """Cascades of a file whose first lines are `id,name` and, after a blank line, `id,time,id,time,...`.

    Cascades are numbered from 0 in the order of the file. Nodes without an event are not among the names.

    Raises:
        InputError: If the file cannot be read or a line is of another form. The message names the line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"expected a readable text file ({type(error).__name__})."
        raise InputError(message, path=path) from error
    names: dict[str, str] = {}
    keys: list[int] = []
    nodes: list[str] = []
    times: list[float] = []
    cascade = -1
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line.split(",")]
        if not line.strip():
            cascade = max(cascade, 0)
        elif cascade < 0:
            if len(fields) != 2:
                message = f"expected `id,name` before the blank line, got {len(fields)} fields."
                raise InputError(message, path=path, line=number)
            names[fields[0]] = fields[1]
        else:
            when = _times(fields[1::2])
            if len(fields) % 2 or when is None or any(node not in names for node in fields[::2]):
                message = "expected `id,time,id,time,...` with listed ids and times that are numbers."
                raise InputError(message, path=path, line=number)
            nodes += [names[node] for node in fields[::2]]
            times += when
            keys += [cascade] * len(when)
            cascade += 1
    if not keys:
        message = "expected a list of nodes, a blank line and at least one cascade."
        raise InputError(message, path=path)
    return Cascades.of(np.array(keys), np.array(nodes), np.array(times))


def _times(fields: list[str]) -> list[float] | None:
    try:
        found = [float(field) for field in fields]
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None
