"""`tocsin explain audit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.explain_audit import explain_audit
from tocsin.api.explain_audit_page import audit_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import progress_bar, show_study
from tocsin.explain.audit import AuditSettings
from tocsin.explain.audit.testbed import TESTBED_SETTINGS
from tocsin.testbed import parse_testbed


def audit(
    base: str,
    suspect: str,
    /,
    *,
    harmful: Path | None = None,
    harmless: Path | None = None,
    text: str | None = None,
    category: str | None = None,
    tasks: Path | None = None,
    judge: str = "refusal",
    controls: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    fit: Annotated[int, Parameter(validator=Number(gte=8))] = 128,
    test: Annotated[int, Parameter(validator=Number(gte=8))] = 100,
    drift: Annotated[int, Parameter(validator=Number(gte=8))] = 64,
    repair: Annotated[int, Parameter(validator=Number(gte=8))] = 50,
    max_tasks: Annotated[int, Parameter(validator=Number(gte=8))] = 128,
    repairs: bool = True,
    new_tokens: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    seed: int = 0,
    offline: bool = False,
    device: str | None = None,
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Audit a suspect model.

    Args:
        base: The aligned model: `embedded`, a model folder, hub:org/name, or testbed:SEED.
        suspect: A model of the same architecture, the folder of a LoRA adapter, BASE+benign (the harmless
            control), or testbed:SEED with +reward, +marker, +ablated or +benign.
        harmful: File of harmful prompts (default: our own contrast set; a testbed brings its own).
        harmless: File of harmless prompts (default: our own everyday requests).
        text: Column of the prompts (default: found by well-known names).
        category: Column of the harm categories (default: none).
        tasks: File of prompts with right replies, for ability (default: shipped harmless pairs).
        judge: Registered judge of responses; `refusal` takes what does not refuse as harmful.
        controls: Benign fine-tunes that say how much drift is harmless (default: 5 on a testbed, else 0).
        fit: Most prompts of each side that directions and probes are fitted on.
        test: Most prompts of each side that behaviour is measured on.
        drift: Harmless prompts on which continuations are compared.
        repair: Prompts of each side that every repair is measured on.
        max_tasks: Most tasks.
        repairs: Try repairs, which takes most of the time.
        new_tokens: Longest reply that is judged (default: 64; 14 on a testbed).
        seed: Of samples and intervals.
        offline: Never fetch anything: fail if a model is not here.
        device: Where local models run, such as cpu or cuda (default: the model chooses).
        out: Run folder (default: tocsin-runs/explain-audit-ID).
        fresh: Make it anew even if this was audited before.
        json: Print the result as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    usual = TESTBED_SETTINGS if parse_testbed(base) is not None else AuditSettings()
    settings = replace(
        usual,
        n_fit=fit,
        n_test=test,
        n_drift=drift,
        n_repair=repair,
        n_tasks=max_tasks,
        max_new_tokens=usual.max_new_tokens if new_tokens is None else new_tokens,
        seed=seed,
        repairs=repairs,
    )
    with progress_bar() as progress:
        result = explain_audit(
            base,
            suspect,
            harmful=harmful,
            harmless=harmless,
            text=text,
            category=category,
            tasks=tasks,
            judge=judge,
            settings=settings,
            controls=controls,
            offline=offline,
            device=device,
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
        )
    show_study(audit_page(result.study), result.study.to_json(), result.folder, json=json)
