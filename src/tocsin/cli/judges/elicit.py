"""`tocsin judges elicit`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.elicit import elicit as elicit_responses
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import notice, plain_table, progress_bar, table_text, write
from tocsin.core.errors import EXIT_ABSTAINED, EXIT_OK
from tocsin.models.responder import DEFAULT_TOKENS

AtLeastOne = Parameter(validator=Number(gte=1))


def elicit(
    prompts: str,
    /,
    *,
    model: tuple[str, ...] = (),
    text: str | None = None,
    item: str | None = None,
    group: str | None = None,
    system: str = "",
    max_tokens: Annotated[int, AtLeastOne] = DEFAULT_TOKENS,
    temperature: Annotated[float | None, Parameter(validator=Number(gte=0, lte=2))] = None,
    concurrency: Annotated[int, Parameter(validator=Number(gte=1, lte=256))] = 8,
    offline: bool = False,
    device: str | None = None,
    batch_size: Annotated[int | None, AtLeastOne] = None,
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> int:
    """Put prompts to several models.

    Args:
        prompts: File of prompts.
        model: Model that answers, or NAME=MODEL; may be repeated. `embedded`, a model folder or GGUF file,
            hub:org/name, provider/name, or scripted:FILE.
        text: Column of the prompts (default: found by name).
        item: Column of their ids (default: running number).
        group: Column of groups, kept for `tocsin judges agree` (default: none).
        system: System prompt for all models (default: none).
        max_tokens: Longest reply, in tokens.
        temperature: Of providers (default: their own). Local models write greedily.
        concurrency: Calls to a provider under way at a time.
        offline: Never fetch a model; of a provider, give only kept replies.
        device: Where a local model runs, such as cpu or cuda (default: the model chooses).
        batch_size: Prompts of one batch of a local model (default: 8).
        out: Run folder (default: tocsin-runs/elicit-ID, named by prompts, models and settings).
        fresh: Begin anew even if this was elicited before.
        json: Print the counts as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    with progress_bar() as progress:
        found = elicit_responses(
            prompts,
            model,
            text=text,
            item=item,
            group=group,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            concurrency=concurrency,
            offline=offline,
            device=device,
            batch_size=batch_size,
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
        )
    if json:
        value = {
            "prompts": found.n_prompts,
            "responses": dict(found.responses),
            "failures": {name: dict(each) for name, each in found.failures.items()},
            "path": str(found.path),
        }
        write([json_format.dumps(value, indent=1) + "\n"])
    else:
        table = plain_table("model", "prompts", "responses", "failures")
        for name in found.models:
            kinds = ", ".join(f"{kind}: {n}" for kind, n in sorted(found.failures[name].items()))
            table.add_row(name, str(found.n_prompts), str(found.responses[name]), kinds or "none")
        write([table_text(table)])
    notice(f"responses: {found.path}")
    return EXIT_ABSTAINED if any(found.failures.values()) else EXIT_OK
