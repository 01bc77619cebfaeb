"""`tocsin annotate`: human rankings on a local web page. Commands are named by import strings."""

from __future__ import annotations

from cyclopts import App

COMMANDS = {
    "new": """Make a study from a file of responses, and print the link of every annotator once.

```text
tocsin annotate new my-study responses.jsonl --annotator anna --annotator ben
```""",
    "serve": """Serve a study on this machine until interrupted.

```text
tocsin annotate serve my-study
```""",
    "add": """Add annotators to a study, or give them another token.

```text
tocsin annotate add my-study carla
```""",
    "status": """Say how far each annotator has come.

```text
tocsin annotate status my-study
```""",
    "export": """Write all rankings in the layout that `tocsin judges agree` reads.

```text
tocsin annotate export my-study > rankings.jsonl
```""",
}

annotate = App(name="annotate", help_format="markdown", result_action="return_value")
for _name, _help in COMMANDS.items():
    annotate.command(f"tocsin.cli.annotate.commands:{_name}", name=_name, help=_help, help_format="markdown")
