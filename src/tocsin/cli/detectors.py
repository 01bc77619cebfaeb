"""`tocsin detectors`."""

from __future__ import annotations

import json as json_

from pydantic import JsonValue

from tocsin.cli.show import notice, plain_table, table_text, write
from tocsin.core.registry import DetectorInfo, broken_plugins, lookup
from tocsin.core.registry import detectors as registered
from tocsin.report import visible


def detectors(name: str | None = None, /, *, json: bool = False) -> None:
    """List detectors, or describe one.

    Args:
        name: Describe this one (default: list all).
        json: Print JSON.
    """
    infos = registered() if name is None else [lookup(name).info]
    if json:
        described: JsonValue = [as_json(info) for info in infos] if name is None else as_json(infos[0])
        write([json_.dumps(described, indent=1) + "\n"])
    elif name is None:
        table = plain_table("detector", "cost", "needs", "what it does")
        for info in infos:
            table.add_row(info.name, info.cost, info.needs or "", info.summary)
        write([table_text(table)])
    else:
        table = plain_table("", f"detector '{infos[0].name}'")
        for key, value in as_json(infos[0]).items():
            shown = ", ".join(str(each) for each in value) if isinstance(value, list) else value
            if shown:
                table.add_row(key.replace("_", " "), str(shown))
        write([table_text(table)])
    for plugin, error in broken_plugins().items():
        notice(f"notice: the plug-in '{visible(plugin)}' could not be loaded: {visible(error, limit=200)}")


def as_json(info: DetectorInfo) -> dict[str, JsonValue]:
    """A registration as JSON values."""
    kinds: list[JsonValue] = [*sorted(kind.value for kind in info.kinds)]
    return {
        "name": info.name,
        "summary": info.summary,
        "kinds": kinds,
        "languages": list(info.languages),
        "cost": info.cost.value,
        "polarity": info.polarity,
        "threshold_rule": info.threshold_rule,
        "needs": info.needs,
        "card": info.card,
        "weights_licence": info.weights_licence,
        "fits_on": list(info.fits_on),
    }
