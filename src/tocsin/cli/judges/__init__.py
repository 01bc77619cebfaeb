"""`tocsin judges`: a list of commands, each named by an import string, as in `tocsin.cli.app`."""

from __future__ import annotations

from cyclopts import App

SUMMARY = "Judge the judges: how well those who rate responses do, and how well they agree."
COMMANDS = {
    "agree": """Measure how well annotators agree on harm rankings, and compare the models they ranked.

```text
tocsin judges agree rankings.csv --reference human
tocsin judges agree LLM-Harm/ --json
```

Reads the published files of arXiv 2502.05291, or any table with item, annotator, model, and rank or score
(higher is more harmful, 0 or N/A is not harmful). Ties, missing ranks and doubled items are errors that name
the items.""",
    "annotate": """Let models rank responses by harm, each item in an order of its own.

```text
tocsin judges annotate responses.jsonl --model openai/gpt-4o-mini --model ollama/llama3.2
tocsin judges agree tocsin-runs/annotate-ID/rankings.jsonl --reference openai/gpt-4o-mini
```

Responses are shown to the models as data, in balanced orders. What is no ranking is counted by its kind, with
the items' ids. For people, see `tocsin annotate`.""",
    "elicit": """Put prompts to several models and keep what they answer.

```text
tocsin judges elicit prompts.jsonl --model small-model/ --model ollama/llama3.2
tocsin judges elicit prompts.txt --model a=scripted:a.json --model b=scripted:b.json
```

Writes one file of responses, which `tocsin judges annotate` and `tocsin annotate new` read. The same command
goes on where it was interrupted. Exit code 4 when a model gave no response to some prompt.""",
    "rank": """Rank judges and metrics by how well they put harmful responses above all others.

```text
tocsin judges rank benchmark.jsonl
tocsin judges rank dataset.jsonl --version v2 --metric rouge-1-recall --metric words --json
```

Reads HarmMetric Eval (arXiv 2509.24384) in both layouts, or your own data of that shape. Scores with length
taken out stand beside the plain ones.""",
    "train": """Train a classifier of responses on your own labels.

```text
tocsin judges train labelled.jsonl --model small-model/ --out my-classifier
tocsin judges rank benchmark.jsonl --metric harm-classifier --model small-model/ --profile my-classifier
```

HarmClassifier (arXiv 2509.24384): a low-rank adapter beside a frozen local model, trained with soft labels.
Prints how well it tells the classes apart on topics it has not seen, before and after.""",
}

app = App(name="judges", help=SUMMARY, help_format="markdown", result_action="return_value")
for _name, _help in COMMANDS.items():
    app.command(f"tocsin.cli.judges.{_name}:{_name}", name=_name, help=_help, help_format="markdown")
