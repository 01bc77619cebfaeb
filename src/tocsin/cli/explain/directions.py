"""`tocsin explain directions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.explain_directions import explain_directions
from tocsin.api.explain_directions_page import directions_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import progress_bar, show_study
from tocsin.explain.directions import DirectionSettings


def directions(
    *,
    harmful: Path | None = None,
    harmless: Path | None = None,
    text: str | None = None,
    wrappers: Path | None = None,
    golden: Path | None = None,
    model: str = "embedded",
    fit: Annotated[int, Parameter(validator=Number(gte=8))] = 100,
    test: Annotated[int, Parameter(validator=Number(gte=8))] = 100,
    steered: Annotated[int, Parameter(validator=Number(gte=8))] = 24,
    rows: Annotated[int, Parameter(validator=Number(gte=1, lte=6))] = 6,
    coefficient: float = 1.0,
    new_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = 24,
    seed: int = 0,
    offline: bool = False,
    device: str | None = None,
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Find the directions of harmfulness and refusal.

    Args:
        harmful: File of harmful prompts; a testbed brings its own.
        harmless: File of harmless prompts; a testbed brings its own.
        text: Column of the prompts (default: found by well-known names).
        wrappers: Text file with one wrapper a line; REQUEST stands for the prompt (default: none;
            a testbed has its own).
        golden: File of the published tensors, whose known values are checked (default: not checked).
        model: `embedded`, the path of a model folder or GGUF file, hub:org/name, testbed or planted:SEED.
        fit: Prompts of each label behind the centres.
        test: Most held-out prompts of each label.
        steered: Held-out prompts of each label that are steered.
        rows: Blocks at which directions are added.
        coefficient: What a direction is multiplied by.
        new_tokens: Most tokens of a reply.
        seed: Of samples, controls and intervals.
        offline: Never fetch anything: fail if the model is not here.
        device: Where a local model runs, such as cpu or cuda (default: the model chooses).
        out: Run folder (default: tocsin-runs/explain-directions-ID).
        fresh: Make it anew even if this was studied before.
        json: Print the result as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    settings = DirectionSettings(
        n_fit=fit,
        n_test=test,
        n_steered=steered,
        n_rows=rows,
        coefficient=coefficient,
        max_new_tokens=new_tokens,
        seed=seed,
    )
    with progress_bar() as progress:
        result = explain_directions(
            harmful,
            harmless,
            model=model,
            settings=settings,
            text=text,
            wrappers=wrappers,
            golden=golden,
            offline=offline,
            device=device,
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
        )
    show_study(directions_page(result.study), result.study.to_json(), result.folder, json=json)
