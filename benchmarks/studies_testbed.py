"""What the `tocsin explain` studies find where the truth is known: ten planted and ten trained testbeds.

    python benchmarks/studies_testbed.py [--seeds 0 1 2] [--only planted]

On planted models: both directions, the MLP, heads and gate neurons that were put there. On trained ones: what
the mask of harm weights, its controls and the mask of refusal do. The sizes of these masks were chosen on
trained seeds 0 to 2. `audit_routes.py` does the same for the audit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common import Json, rate_json, result_name, write_result

from tocsin.api.explain_directions import explain_directions
from tocsin.api.explain_mediation import TESTBED_SETTINGS, explain_mediation
from tocsin.api.explain_weights import explain_weights
from tocsin.core.stats.intervals import wilson
from tocsin.explain.mediation import MediationStudy
from tocsin.explain.weights import WeightStudy
from tocsin.explain.weights.records import Condition, Role
from tocsin.testbed import PlantedTruth, load_planted

MIN_COSINE = 0.99
MIN_RATIO = 10.0


def planted(seed: int, folder: Path) -> Json:
    """Whether what was planted is what is found."""
    truth = load_planted(seed).truth
    assert truth is not None
    directions = explain_directions(model=f"planted:{seed}", out=folder / "directions").study
    settings = replace(TESTBED_SETTINGS, levels=("module", "head", "gate"))
    parts = explain_mediation(model=f"planted:{seed}", settings=settings, out=folder / "mediation").study
    return {
        "seed": seed,
        "harmfulness cosine": round(directions.planted["harmfulness"], 4),
        "refusal cosine": round(directions.planted["refusal"], 4),
        "directions": min(directions.planted.values()) >= MIN_COSINE,
        **ranked_first(parts, truth),
        "weights unchanged": parts.weights_unchanged,
    }


def ranked_first(study: MediationStudy, truth: PlantedTruth) -> Json:
    """Whether the planted MLP, heads and gate neurons come before all others."""
    assert study.gate is not None
    mlps = {e.name: abs(e.nie.value or 0.0) for e in study.level("module").effects if e.name.endswith("mlp")}
    heads = sorted(study.level("head").effects, key=lambda effect: -abs(effect.nie.value or 0.0))
    marks = {f"head {block + 1}.{head + 1}" for block, head in truth.mark_heads}
    return {
        "mlp": max(mlps, key=lambda name: mlps[name]) == f"block {truth.harm_block + 1} mlp",
        "heads": {effect.name for effect in heads[: len(marks)]} == marks,
        "gate neurons": set(study.gate.neurons[: len(truth.gate_neurons)]) == set(truth.gate_neurons),
    }


def trained(seed: int, folder: Path) -> Json:
    """What the removal of harm weights and of refusal weights does."""
    study = explain_weights(model=f"testbed:{seed}", out=folder / "weights").study
    harm, refusal = study.condition("harm"), study.condition("refusal")
    low = study.specificity.low
    controls = [c for c in study.conditions if c.kind in {"random", "magnitude"}]
    spared = (harm.refusal_rate or 0.0) >= 0.9 * (study.refusal_rate or 0.0)
    return {
        "seed": seed,
        "weights": harm.n_weights,
        "rise on marked answers": round(rise(study, "harm", "harm"), 4),
        "rise after their first token": round(rise(study, "harm", "opener"), 4),
        "rise on benign answers": round(rise(study, "harm", "benign"), 4),
        "ratio": None if study.specificity.value is None else round(study.specificity.value, 1),
        "ratio, lower end": None if low is None else round(low, 1),
        "at least 10 times": low is not None and low >= MIN_RATIO,
        "most of a control": largest(controls, "harm"),
        "most of a control after the first token": largest(controls, "opener"),
        "most of a control on benign answers": largest(controls, "benign"),
        "refusal rate": study.refusal_rate,
        "refusal rate without harm weights": harm.refusal_rate,
        "refusals stay within 10 %": spared,
        "refusal rate without refusal weights": refusal.refusal_rate,
        "rise after a given opener without refusal weights": round(rise(study, "refusal", "opener"), 4),
        "weights unchanged": study.weights_unchanged,
    }


def rise(study: WeightStudy, kind: str, role: Role) -> float:
    """Mean rise of the loss of one set of responses, in nats per token."""
    return mean(study.condition(kind), role)


def mean(condition: Condition, role: Role) -> float:
    """The same of one condition."""
    change = condition.of(role)
    assert change is not None
    return change.change.value or 0.0


def largest(conditions: Sequence[Condition], role: Role) -> float:
    """The largest change of a mean loss, either way."""
    return round(max(abs(mean(condition, role)) for condition in conditions), 4)


def shares(rows: Sequence[Json]) -> Json:
    """How many seeds passed each test that a row answers by yes or no."""
    names = [name for name, value in rows[0].items() if isinstance(value, bool)]
    return {name: rate_json(wilson(sum(row[name] is True for row in rows), len(rows))) for name in names}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--only", choices=("planted", "trained"))
    parser.add_argument("--small", action="store_true", help="seed 0 only")
    given = parser.parse_args()
    seeds = [0] if given.small else given.seeds
    figures: Json = {"seeds": [*seeds]}
    for name, make in (("planted", planted), ("trained", trained)):
        if given.only not in {None, name}:
            continue
        rows: list[Json] = []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(make(seed, Path(folder)))
            print(name, rows[-1], file=sys.stderr, flush=True)
        figures[name] = {"passed": shares(rows), "rows": [*rows]}
        for test, rate in shares(rows).items():
            print(f"{name}, {test}: {rate}", flush=True)
    write_result(result_name("studies_testbed", small=given.small), figures)


if __name__ == "__main__":
    main()
