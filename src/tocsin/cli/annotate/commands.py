"""The commands of `tocsin annotate`."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.annotate import (
    PORT,
    add_annotators,
    export_study,
    is_loopback,
    new_study,
    serve_study,
    study_progress,
)
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import notice, plain_table, table_text, write
from tocsin.judges.annotate import Annotator

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]


def new(
    study: Path,
    data: Path,
    /,
    *,
    annotator: tuple[str, ...] = (),
    title: str | None = None,
    guidance: Path | None = None,
    ties: bool = False,
    seed: int = 0,
    clean: bool = False,
    skip_incomplete: bool = False,
    port: Port = PORT,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Make a study.

    Args:
        study: New folder of the study.
        data: File of responses, as `tocsin judges elicit` writes it.
        annotator: Name of one who ranks; may be repeated.
        title: Shown on every page (default: Ranking responses by harm).
        guidance: Text file with words of your own to the annotators (default: none).
        ties: Allow two harmful responses to share a rank.
        seed: Of the orders in which items and responses are shown.
        clean: Take off prompts that responses begin with, and whole repetitions.
        skip_incomplete: Leave out items of which a response is missing, instead of refusing the file.
        port: Port in the printed links.
        json: Print names and tokens as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    made = new_study(
        study,
        data,
        annotators=annotator,
        title=title,
        guidance=guidance,
        ties=ties,
        seed=seed,
        clean=clean,
        skip_incomplete=skip_incomplete,
    )
    if made.left_out:
        notice(f"left out: {len(made.left_out)} items of which a response is missing")
    notice(f"{made.n_items} items. These links are shown once; give each to its annotator alone.")
    _tokens(made.annotators, port, as_json=json)
    notice(f"next: tocsin annotate serve {study}")


def add(
    study: Path,
    /,
    *names: str,
    new_token: bool = False,
    port: Port = PORT,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Add annotators.

    Args:
        study: Folder of the study.
        names: Names of those who rank.
        new_token: Give those who are there another token; their old one ends.
        port: Port in the printed links.
        json: Print names and tokens as JSON.
        configs: Where options come from.
    """
    del configs
    _tokens(add_annotators(study, names, new_token=new_token), port, as_json=json)


def serve(
    study: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: Port = PORT,
    name: tuple[str, ...] = (),
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Serve a study.

    Args:
        study: Folder of the study.
        host: Address that is listened on.
        port: Port; 0 takes a free one.
        name: Further name under which browsers reach this server; may be repeated (default: none).
        configs: Where options come from.
    """
    del configs
    if not is_loopback(host):
        notice(
            f"warning: other machines can reach {host}. Tokens and texts travel unencrypted: put a proxy "
            "with TLS in front, or tunnel to the loopback address."
        )
    serve_study(
        study, host=host, port=port, names=name, ready=lambda url: notice(f"serving {study} at {url}")
    )


def status(study: Path, /, *, json: bool = False, configs: ConfigOptions = CONFIG_DEFAULTS) -> None:
    """Say how far each annotator has come.

    Args:
        study: Folder of the study.
        json: Print it as JSON.
        configs: Where options come from.
    """
    del configs
    progress = study_progress(study)
    if json:
        write([json_format.dumps([each.model_dump() for each in progress], indent=1) + "\n"])
        return
    table = plain_table("annotator", "ranked", "skipped", "items")
    for each in progress:
        table.add_row(each.annotator, str(each.ranked), str(each.skipped), str(each.items))
    write([table_text(table)])


def export(
    study: Path,
    /,
    *,
    format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002 - the name of the option
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Write all rankings.

    Args:
        study: Folder of the study.
        format: Form of the lines.
        configs: Where options come from.
    """
    del configs
    write(export_study(study, form=format))


def _tokens(annotators: Sequence[Annotator], port: int, *, as_json: bool) -> None:
    if as_json:
        write([json_format.dumps([each.model_dump() for each in annotators], indent=1) + "\n"])
        return
    # Behind "#", which a browser sends to no server and writes into no log.
    lines = [f"{each.name}\thttp://127.0.0.1:{port}/#{each.token}\n" for each in annotators]
    write(lines)
