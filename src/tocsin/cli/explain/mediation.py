"""`tocsin explain mediation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.explain_mediation import TESTBED_SETTINGS, explain_mediation
from tocsin.api.explain_mediation_page import mediation_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import progress_bar, show_study
from tocsin.explain.mediation import MediationSettings
from tocsin.explain.mediation.settings import LEVELS, LevelChoice
from tocsin.testbed import parse_testbed


def mediation(
    *,
    harmful: Path | None = None,
    harmless: Path | None = None,
    prompt: str | None = None,
    harmless_prompt: str | None = None,
    pair: str | None = None,
    model: str = "embedded",
    construction: Literal["position_free", "aligned", "noise"] = "position_free",
    outcome: Literal["logit_margin", "seq_logprob", "judge"] = "logit_margin",
    compliant: Annotated[list[str] | None, Parameter(negative=())] = None,
    refusing: Annotated[list[str] | None, Parameter(negative=())] = None,
    judge: str | None = None,
    judge_model: str = "embedded",
    level: Annotated[list[LevelChoice] | None, Parameter(negative=())] = None,
    at: Literal["last", "content", "all"] = "last",
    last: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    template: Literal["raw", "chat"] | None = None,
    fast: bool = False,
    pairs: Annotated[int, Parameter(validator=Number(gte=10))] = 50,
    verify: Annotated[int, Parameter(validator=Number(gte=1))] = 256,
    gate_block: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    seed: int = 0,
    offline: bool = False,
    device: str | None = None,
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Measure mediated effects.

    Args:
        harmful: File of harmful prompts (default: the package's own matched pairs).
        harmless: File of harmless prompts, paired with the harmful ones by order.
        prompt: Column of the harmful prompts (default: found by well-known names).
        harmless_prompt: Column of the harmless prompts (default: found by well-known names).
        pair: Column of both files that names the pair (default: pair by order).
        model: `embedded`, the path of a model folder or GGUF file, hub:org/name, or testbed[:SEED], which
            brings its own prompts.
        construction: Counterfactual: any harmless prompt, one of as many tokens, or noise on the content.
        outcome: What is measured: first tokens, whole openers, or a judge's score of the reply.
        compliant: Opener of a complying reply; may be given several times (default: common English ones).
        refusing: Opener of a refusal; may be given several times (default: common English ones).
        judge: Detector that judges replies, for `--outcome judge`.
        judge_model: Model of the judge.
        level: What is patched; may be given several times (default: everything).
        at: Places that components are patched at; content and all need aligned prompts or noise.
        last: Places at the end of the prompt that `last` means.
        template: Prompts as they are, or in the model's chat template (default: the model's, if it has one).
        fast: Estimate modules, heads and neurons from one backward pass; the agreement is stated.
        pairs: Most pairs.
        verify: Neurons of a block that are patched one by one after ranking all.
        gate_block: Block whose neurons are tested (default: the last).
        seed: Of controls, noise and intervals.
        offline: Never fetch anything: fail if the model is not here.
        device: Where a local model runs, such as cpu or cuda (default: the model chooses).
        out: Run folder (default: tocsin-runs/explain-mediation-ID).
        fresh: Make it anew even if this was studied before.
        json: Print the result as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    base = TESTBED_SETTINGS if parse_testbed(model) is not None else MediationSettings()
    settings = MediationSettings(
        construction=construction,
        outcome=outcome,
        compliant=tuple(compliant or base.compliant),
        refusing=tuple(refusing or base.refusing),
        levels=tuple(level or LEVELS),
        at=at,
        n_last=last,
        template=template,
        fast=fast,
        n_pairs=pairs,
        n_verify=verify,
        gate_block=gate_block,
        seed=seed,
    )
    with progress_bar() as progress:
        result = explain_mediation(
            harmful,
            harmless,
            model=model,
            settings=settings,
            prompt=prompt,
            harmless_prompt=harmless_prompt,
            pair=pair,
            judge=judge,
            judge_model=judge_model,
            offline=offline,
            device=device,
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
        )
    show_study(mediation_page(result.study), result.study.to_json(), result.folder, json=json)
