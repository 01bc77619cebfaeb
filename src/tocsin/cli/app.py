"""The list of commands. Each is named by an import string, so that `--help` loads none of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from cyclopts import App, Parameter

from tocsin.cli.settings import Settings

SUMMARY = """Find, measure and explain harm in prompts, fine-tuning data and skills.

tocsin scan prompts.jsonl    examine a file, a folder of skills, or stdin (-)
tocsin detectors             list what can examine it

Options can also be set in the environment (TOCSIN_MODEL=...) or in a TOML
file given by --config. An argument wins over both.

Exit codes: 0 nothing flagged, 1 something flagged, 2 bad arguments or input,
3 a missing extra, 4 too much left unjudged, 130 interrupted."""

COMMANDS = {
    "scan": """Examine prompts, chats, fine-tuning data or skills, and say which are harmful.

```text
tocsin scan prompts.jsonl
tocsin scan skills/ --deep --format sarif > found.sarif
```

Writes a run folder with every verdict and a report. The same command goes on with an interrupted scan and
shows a finished one at once. The exit code is 1 when something is flagged, and 4 when nothing is flagged but
more items than `--max-abstain` could not be judged or were read only in part.""",
    "evaluate": """Measure a detector on labelled data, with intervals and a confound audit.

```text
tocsin evaluate harmfulness labelled.csv --label class --positive harmful
tocsin evaluate biopsy labelled.jsonl --label class --positive 1 --group source --json
```""",
    "fit": """Fit a detector on data of your own and keep it as a profile.

```text
tocsin fit harmfulness --harmless good.txt --harmful bad.txt --profile my-profile
tocsin scan prompts.jsonl --profile my-profile
```""",
    "trace": """Follow items through a message log: find copies, and how they moved between groups.

```text
tocsin trace run messages.parquet --out traced
tocsin trace simulate --messages 10000 --groups 200 --out simulated
```""",
    "annotate": """Rank responses by people on a local web page, and export what they said.

```text
tocsin annotate new my-study responses.jsonl --annotator anna --annotator ben
tocsin annotate serve my-study
```""",
    "detectors": """List detectors, or describe one.

```text
tocsin detectors
tocsin detectors harmfulness --json
```""",
    "models": """Say whether the embedded model is present, and how other models are named.

```text
tocsin models
tocsin models --json
```""",
    "taxonomy": """List the categories of harm.

```text
tocsin taxonomy
tocsin taxonomy --json
```""",
}

GROUPS = {"annotate", "trace"}
"""Commands that have commands of their own, and say there how their pages are shown."""


@dataclass(slots=True)
class Invocation:
    """The command line of this process."""

    argv: tuple[str, ...] = ("tocsin",)


def _shown_default(value: object) -> str | None:
    """A default as words. Where it is nothing, the option's own sentence says what happens."""
    if value is None or value == ():
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


invocation = Invocation()
settings = Settings()
app = App(
    name="tocsin",
    help=SUMMARY,
    help_format="plaintext",
    version=lambda: version("tocsin"),
    config=settings,
    default_parameter=Parameter(negative_iterable=(), show_default=_shown_default),
    result_action="return_value",
)
for _name, _help in COMMANDS.items():
    if _name in GROUPS:
        app.command(f"tocsin.cli.{_name}:{_name}", name=_name, help=_help)
        continue
    # Markdown is slower to show than plain text, so only the pages of single commands use it.
    app.command(f"tocsin.cli.{_name}:{_name}", name=_name, help=_help, help_format="markdown")
# Groups of commands bring an app of their own.
app.command(
    "tocsin.cli.judges:app",
    name="judges",
    help="Judge the judges: rank them, and measure how annotators agree.",
)
app.command("tocsin.cli.explain:app", name="explain", help="Look inside a model: directions and weights.")
