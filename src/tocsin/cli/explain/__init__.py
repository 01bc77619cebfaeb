"""`tocsin explain`: a list of commands, each named by an import string, as in `tocsin.cli.app`."""

from __future__ import annotations

from cyclopts import App

SUMMARY = "Look inside a model: where harm is recognised, refused and written."
COMMANDS = {
    "audit": """Audit a suspect model: how it became unsafe, what is left, what repairs it.

```text
tocsin explain audit testbed:0 testbed:0+reward
tocsin explain audit embedded ./finetuned-model
```

Behaviour, self-audit, reflection, ability, drift, the inside and repairs in memory, with a verdict that may
be "undetermined" (arXiv 2604.18510). Nothing is written to either model.""",
    "directions": """Find where a model holds harmfulness and refusal, and what adding them does.

```text
tocsin explain directions --harmful harmful.csv --harmless harmless.csv
tocsin explain directions --model testbed
```

Four buckets of prompts, scores by layer, steering at single layers and the reply-inversion task
(arXiv 2507.11878). The model's weights stay as they are.""",
    "mediation": """Measure through which layers, modules, heads, neurons and tokens harm acts on the reply.

```text
tocsin explain mediation
tocsin explain mediation --harmful harmful.csv --harmless harmless.csv --fast
```

Holds parts of one run at their values in another, in both directions (arXiv 2604.11663).""",
    "weights": """Find the few weights a model needs for harmful responses, and what else they do.

```text
tocsin explain weights --harm harmful.csv --benign harmless.csv
tocsin explain weights --model testbed
```

Removes weights for a while, measures, and puts every bit back. Published as B-TAP (arXiv 2604.09544).""",
}

app = App(name="explain", help=SUMMARY, help_format="markdown", result_action="return_value")
for _name, _help in COMMANDS.items():
    app.command(f"tocsin.cli.explain.{_name}:{_name}", name=_name, help=_help, help_format="markdown")
