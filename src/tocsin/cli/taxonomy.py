"""`tocsin taxonomy`."""

from __future__ import annotations

import json as json_

from tocsin.cli.show import plain_table, table_text, write
from tocsin.core.records import SCHEMA_VERSION
from tocsin.core.taxonomy import CATEGORIES, SCHEMES


def taxonomy(*, json: bool = False) -> None:
    """List the categories of harm.

    Args:
        json: Print JSON, with definitions and the codes of published lists that translate to each category.
    """
    if json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "categories": [category.model_dump(mode="json") for category in CATEGORIES],
            "schemes": {
                name: {"title": scheme.title, "source": scheme.source} for name, scheme in SCHEMES.items()
            },
        }
        write([json_.dumps(document, indent=1) + "\n"])
        return
    table = plain_table("id", "tier", "title", "definition")
    for category in CATEGORIES:
        table.add_row(category.id, category.tier, category.title, category.definition)
    write([table_text(table)])
