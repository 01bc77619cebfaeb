"""`tocsin trace`: from a message log to cascades. Commands are named by import strings."""

from __future__ import annotations

from cyclopts import App

COMMANDS = {
    "run": """Find the items of a message log and how they moved between groups.

```text
tocsin trace run messages.parquet --out traced
```""",
    "simulate": """Write a message log with planted cascades of harmless made-up sentences.

```text
tocsin trace simulate --messages 10000 --groups 200 --out simulated
```""",
}

trace = App(name="trace", help_format="markdown", result_action="return_value")
for _name, _help in COMMANDS.items():
    trace.command(f"tocsin.cli.trace.{_name}:{_name}", name=_name, help=_help, help_format="markdown")
