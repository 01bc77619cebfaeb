"""How fast a sweep over attention and MLP of every block is, beside one whole forward pass for each patch.

One run, one machine, the embedded model, pairs of the package's own matched requests. The slow side does
what a first script would do: run the harmless prompt from its first token, with a hook that gives one module
its value from the harmful prompt at the last place. Both sides give the same effects, which are compared.

    python benchmarks/speed_mediation.py [--pairs 5] [--small]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from common import Json, result_name, write_result

from tocsin.api.explain_mediation import own_pairs
from tocsin.core.registry import DetectorContext
from tocsin.explain.mediation import COMPLIANT, REFUSING
from tocsin.internals.anatomy import Site
from tocsin.internals.layout import PromptLayout
from tocsin.internals.outcomes import LogitMargin, first_tokens
from tocsin.internals.patching import Patch, Patcher
from tocsin.models.local import LocalModel
from tocsin.models.white_box import load_white_box

LAST = (-1,)


def sites(patcher: Patcher) -> list[Site]:
    """Attention and MLP of every block."""
    return [Site(kind, block) for block in range(patcher.anatomy.n_blocks) for kind in ("attention", "mlp")]


def shared(patcher: Patcher, pairs: Sequence[tuple[list[int], list[int]]]) -> list[np.ndarray]:
    """Indirect effects as the study computes them: both runs once, all patches of a pair side by side."""
    found = []
    for harmless, harmful in pairs:
        base, source = patcher.clean(harmless, 1), patcher.clean(harmful, 1)
        patches = [Patch((site,), LAST) for site in sites(patcher)]
        found.append(patcher.patched(base, source, patches) - base.outcome)
    return found


def one_by_one(
    model: LocalModel, patcher: Patcher, margin: LogitMargin, pairs: Sequence[tuple[list[int], list[int]]]
) -> list[np.ndarray]:
    """The same with one whole pass for every patch."""
    network = model.torch_model
    yes, no = list(margin.compliant), list(margin.refusal)

    def outcome(ids: list[int]) -> float:
        logits = network(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        return float(logits[yes].logsumexp(0) - logits[no].logsumexp(0))

    def tensor_of(value: object) -> torch.Tensor:
        return value[0] if isinstance(value, tuple) else value  # type: ignore[return-value]

    found = []
    with torch.no_grad():
        for harmless, harmful in pairs:
            modules = [patcher.anatomy.hook_point(site)[0] for site in sites(patcher)]
            kept: dict[int, torch.Tensor] = {}

            def keep(place: int, kept: dict[int, torch.Tensor] = kept) -> object:
                def hook(_module: object, _args: object, output: object) -> None:
                    kept[place] = tensor_of(output)[0, -1].clone()

                return hook

            handles = [m.register_forward_hook(keep(place)) for place, m in enumerate(modules)]  # type: ignore[arg-type]
            outcome(harmful)
            for handle in handles:
                handle.remove()
            before = outcome(harmless)
            effects = []
            for place, module in enumerate(modules):

                def write(_m: object, _a: object, output: object, place: int = place) -> object:
                    tensor_of(output)[0, -1] = kept[place]  # noqa: B023 - used before the next pair
                    return output

                handle = module.register_forward_hook(write)
                effects.append(outcome(harmless) - before)
                handle.remove()
            found.append(np.array(effects))
    return found


def main() -> None:
    """Measure, compare, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    n_pairs, rounds = (2, 1) if options.small else (options.pairs, options.rounds)
    model = load_white_box("embedded", DetectorContext(model="embedded"))
    layout = PromptLayout(model)
    margin = LogitMargin(first_tokens(model, COMPLIANT), first_tokens(model, REFUSING))
    pairs: list[tuple[list[int], list[int]]] = []
    for pair in own_pairs()[0][:n_pairs]:
        harmless, harmful = (layout.build(text) for text in (pair.harmless, pair.harmful))
        pairs.append(([*harmless.prefix, *harmless.ids], [*harmful.prefix, *harmful.ids]))
    patcher = Patcher(model, margin, ("attention", "mlp"), prefix=layout.prefix)
    times: dict[str, list[float]] = {"shared": [], "one by one": []}
    gap = 0.0
    for turn in range(rounds):
        results: dict[str, list[np.ndarray]] = {}
        for name in sorted(times, reverse=bool(turn % 2)):
            start = time.perf_counter()
            results[name] = (
                shared(patcher, pairs) if name == "shared" else one_by_one(model, patcher, margin, pairs)
            )
            times[name].append(time.perf_counter() - start)
        gap = max(
            gap,
            *(
                float(np.abs(a - b).max())
                for a, b in zip(results["shared"], results["one by one"], strict=True)
            ),
        )
    ratios = [slow / fast for fast, slow in zip(times["shared"], times["one by one"], strict=True)]
    tokens = [len(ids) for pair in pairs for ids in pair]
    result: Json = {
        "pairs": n_pairs,
        "patches of a pair": len(sites(patcher)),
        "tokens of a prompt": {"median": statistics.median(tokens), "most": max(tokens)},
        "seconds": {name: [round(each, 2) for each in rows] for name, rows in times.items()},
        "ratio": {"median": round(statistics.median(ratios), 2), "rounds": [round(r, 2) for r in ratios]},
        "largest difference of an effect": gap,
    }
    write_result(result_name("speed_mediation", small=options.small), result)


if __name__ == "__main__":
    main()
