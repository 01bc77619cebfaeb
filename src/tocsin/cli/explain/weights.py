"""`tocsin explain weights`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.explain_weights import TESTBED_SETTINGS, explain_weights
from tocsin.api.explain_weights_page import weights_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import notice, progress_bar, show_study
from tocsin.explain.weights import WeightSettings
from tocsin.testbed import parse_testbed


def weights(
    *,
    harm: Path | None = None,
    benign: Path | None = None,
    refusal: Path | None = None,
    prompt: str | None = None,
    harm_response: str | None = None,
    benign_response: str | None = None,
    refusal_response: str | None = None,
    category: str | None = None,
    model: str = "embedded",
    q: Annotated[float | None, Parameter(validator=Number(gt=0, lte=0.05))] = None,
    p: Annotated[float | None, Parameter(validator=Number(gte=0, lte=1))] = None,
    scope: Literal["matrix", "global"] | None = None,
    abs_order: Literal["per_sample", "after_mean"] = "per_sample",
    template: Literal["raw", "chat"] | None = None,
    given: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    samples: Annotated[int, Parameter(validator=Number(gte=8))] = 128,
    test_samples: Annotated[int, Parameter(validator=Number(gte=8))] = 64,
    max_words: Annotated[int, Parameter(validator=Number(gte=1))] = 60,
    seed: int = 0,
    save_mask: Path | None = None,
    offline: bool = False,
    device: str | None = None,
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Find harm weights.

    Args:
        harm: File with harmful prompts and harmful responses, or the openers of such.
        benign: File with harmless prompts and good responses.
        refusal: File with harmful prompts and refusals (default: none).
        prompt: Column of the prompts (default: found by well-known names).
        harm_response: Column of the harmful responses (default: found by well-known names).
        benign_response: Column of the good responses (default: found by well-known names).
        refusal_response: Column of the refusals (default: found by well-known names).
        category: Column of the harm categories: transfer between them is studied (default: none).
        model: `embedded`, the path of a model folder or GGUF file, hub:org/name, or testbed[:SEED], which
            brings its own samples.
        q: Share of weights taken from the ranking by harmful responses (default: 1e-5; 0.02 for a testbed).
        p: Share of weights that harmless responses need, which stay (default: 5e-5; 0.2 for a testbed).
        scope: Whether the shares are of every matrix, or of all together (default: matrix).
        abs_order: Whether gradients of harmless samples add up in size, or may cancel.
        template: Prompts as they are, or in the model's chat template (default: raw; chat for a testbed).
        given: First tokens of harmful responses that are given when weights are looked for, as by prefilling
            (default: 0; 1 for a testbed).
        samples: Samples of each side that weights are found on.
        test_samples: Most samples of each side that their removal is measured on.
        max_words: Longer responses are cut.
        seed: Of controls and intervals.
        save_mask: File to write the mask to; positions only, no weights (default: none).
        offline: Never fetch anything: fail if the model is not here.
        device: Where a local model runs, such as cpu or cuda (default: the model chooses).
        out: Run folder (default: tocsin-runs/explain-weights-ID).
        fresh: Make it anew even if this was studied before.
        json: Print the result as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    base = TESTBED_SETTINGS if parse_testbed(model) is not None else WeightSettings()
    wanted = {"q": q, "p": p, "scope": scope, "template": template, "given": given}
    settings = replace(
        base,
        abs_order=abs_order,
        n_find=samples,
        n_test=test_samples,
        seed=seed,
        **{name: value for name, value in wanted.items() if value is not None},  # type: ignore[arg-type]
    )
    with progress_bar() as progress:
        result = explain_weights(
            harm,
            benign,
            refusal,
            model=model,
            settings=settings,
            prompt=prompt,
            harm_response=harm_response,
            benign_response=benign_response,
            refusal_response=refusal_response,
            category=category,
            max_words=max_words,
            save=save_mask,
            offline=offline,
            device=device,
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
        )
    if result.mask is not None:
        notice(f"mask:   {result.mask}")
    show_study(weights_page(result.study), result.study.to_json(), result.folder, json=json)
