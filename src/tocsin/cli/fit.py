"""`tocsin fit`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tocsin.api.fit import fit as fit_
from tocsin.cli.options import CONFIG_DEFAULTS, MODEL_DEFAULTS, ConfigOptions, ModelOptions
from tocsin.cli.show import notice, plain_table, table_text, write
from tocsin.cli.words import parse_options
from tocsin.core.records import Kind
from tocsin.report import visible


def fit(
    detector: str,
    /,
    *,
    profile: Path,
    harmless: Path | None = None,
    harmful: Path | None = None,
    train: Path | None = None,
    label: str | None = None,
    positive: tuple[str, ...] = (),
    text: str | None = None,
    prompt: str | None = None,
    group: str | None = None,
    category: str | None = None,
    kind: Kind | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    deep: bool = False,
    format_: Annotated[Literal["table", "json"], Parameter(name="--format")] = "table",
    json: bool = False,
    models: ModelOptions = MODEL_DEFAULTS,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Fit a detector and keep it as a profile.

    Args:
        detector: Name from `tocsin detectors`.
        profile: Folder to write: new, empty, or a profile of the same detector, which is replaced.
        harmless: File or folder of harmless items (default: taken from --train).
        harmful: File or folder of harmful items; detectors of one class take none (default: taken from
            --train).
        train: One labelled file instead of the two (default: none).
        label: Column of the labels of --train (default: none).
        positive: Label of harmful rows of --train; may be repeated (default: harmful).
        text: Column of the text (default: found by well-known names).
        prompt: Column of the request that the text answers (default: found by well-known names).
        group: Column whose equal values mark twins, which are kept together (default: each row stands alone).
        category: Column of taxonomy ids, for detectors that learn categories (default: none).
        kind: Treat rows as this kind of item (default: by their columns).
        set_: Option of the detector as NAME.OPTION=VALUE (default: none).
        deep: Read the bodies of skills too, not only name, description and section headers.
        format_: Form of what is written to standard output.
        json: Short for --format json.
        models: Which model is read, and how.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    done = fit_(
        detector,
        profile=profile,
        harmless=harmless,
        harmful=harmful,
        train=train,
        text=text,
        prompt=prompt,
        label=label,
        positive=positive or None,
        group=group,
        category=category,
        as_kind=kind,
        deep=deep,
        options=dict(parse_options(set_)),
        **asdict(models),
    )
    if json or format_ == "json":
        write([done.to_json() + "\n"])
    else:
        table = plain_table(f"fitted {visible(done.detector)}", "")
        table.add_row("harmless items", f"{done.n_harmless:,}")
        table.add_row("harmful items", f"{done.n_harmful:,}")
        for reason, count in done.unreadable.items():
            table.add_row(f"not readable: {reason}", f"{count:,}")
        table.add_row("model", visible(done.model))
        table.add_row("profile", visible(done.profile))
        write([table_text(table)])
    for note in done.notes:
        notice(f"note: {visible(note)}")
    notice(f"next:   tocsin scan PATH --detector {done.detector} --profile {visible(done.profile)}")
