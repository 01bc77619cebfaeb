"""`tocsin judges annotate`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.model_annotators import DEFAULT_REPLY_TOKENS, annotate_responses
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import notice, plain_table, progress_bar, table_text, write
from tocsin.core.errors import EXIT_ABSTAINED, EXIT_OK

AtLeastOne = Parameter(validator=Number(gte=1))
_SHOWN_IDS = 5


def annotate(
    responses: Path,
    /,
    *,
    model: tuple[str, ...] = (),
    orders: Annotated[int, AtLeastOne] = 1,
    seed: int = 0,
    clean: bool = False,
    skip_incomplete: bool = False,
    max_tokens: Annotated[int, AtLeastOne] = DEFAULT_REPLY_TOKENS,
    temperature: Annotated[float, Parameter(validator=Number(gte=0, lte=2))] = 0.0,
    concurrency: Annotated[int, Parameter(validator=Number(gte=1, lte=256))] = 8,
    offline: bool = False,
    device: str | None = None,
    batch_size: Annotated[int | None, AtLeastOne] = None,
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> int:
    """Let models rank responses.

    Args:
        responses: File of responses, as `tocsin judges elicit` writes it.
        model: Model that ranks, or NAME=MODEL; may be repeated.
        orders: In how many orders every item is shown; each gives an annotator of its own.
        seed: Of the orders.
        clean: Take off prompts that responses begin with, and whole repetitions.
        skip_incomplete: Leave out items of which a response is missing, instead of refusing the file.
        max_tokens: Longest reply, in tokens.
        temperature: Of providers. Local models write greedily.
        concurrency: Calls to a provider under way at a time.
        offline: Never fetch a model; of a provider, give only kept replies.
        device: Where a local model runs, such as cpu or cuda (default: the model chooses).
        batch_size: Questions of one batch of a local model (default: 8).
        out: Run folder (default: tocsin-runs/annotate-ID, named by responses, models and settings).
        fresh: Begin anew even if this was done before.
        json: Print the counts as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    with progress_bar() as progress:
        found = annotate_responses(
            responses,
            model,
            orders=orders,
            seed=seed,
            clean=clean,
            skip_incomplete=skip_incomplete,
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
    if found.left_out:
        notice(f"left out: {len(found.left_out)} items of which a response is missing")
    if json:
        value = {
            "items": found.n_items,
            "left_out": list(found.left_out),
            "ranked": dict(found.ranked),
            "failures": {name: dict(each) for name, each in found.failures.items()},
            "path": str(found.path),
        }
        write([json_format.dumps(value, indent=1) + "\n"])
    else:
        table = plain_table("annotator", "items", "ranked", "failures")
        for name in found.annotators:
            kinds = "; ".join(_shown(kind, items) for kind, items in sorted(found.failures[name].items()))
            table.add_row(name, str(found.n_items), str(found.ranked[name]), kinds or "none")
        write([table_text(table)])
    notice(f"rankings: {found.path}")
    return EXIT_ABSTAINED if any(found.failures.values()) else EXIT_OK


def _shown(kind: str, items: tuple[str, ...]) -> str:
    more = " ..." if len(items) > _SHOWN_IDS else ""
    return f"{kind}: {', '.join(items[:_SHOWN_IDS])}{more} ({len(items)})"
