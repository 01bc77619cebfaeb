"""How well the shipped profiles tell harm from harmlessness, on public sets and our own held-back split.

No public row was used to fit anything here, except where a line says that it was fitted on Alpaca. Every
share has Wilson's interval, every ranking a bootstrap interval and the audit of its surface. An
abstention counts against the detector in the figures that say so. One file for each detector and profile
is written, with paths and numbers only.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import Json, needed_data_folder, prompt_items, rate_json, read_rows, write_result
from pydantic import JsonValue
from scoring import Scored, comparison, highest, score, shares

from tocsin.core.records import Item
from tocsin.core.registry import Detector, DetectorContext, create, is_fittable
from tocsin.core.stats import wilson
from tocsin.core.taxonomy import CATEGORIES
from tocsin.sources import open_source
from tocsin.sources.contrast import Part, contrast_items

PROMPT_DETECTORS = ("harmfulness", "latent-guard", "biopsy", "surface", "policy-embedded")
HARMFUL = {"xstest_unsafe", "advbench", "do_not_answer", "catqa"}
COMPARISONS = {
    "xstest_unsafe_vs_safe": (("xstest_unsafe",), ("xstest_safe",)),
    "do_not_answer_and_catqa_vs_alpaca": (("do_not_answer", "catqa"), ("alpaca",)),
    "advbench_vs_alpaca": (("advbench",), ("alpaca",)),
}
WILD = "openclaw"
"""Publisher folder of the wild registry; the others are of reputable publishers."""
PUBLISHED_WILD_SHARE = 0.0884
"""Share of harmful skills in the wild, card 01 (arXiv 2604.15415)."""

FIT_ROWS = 250
"""Alpaca rows a one-class profile is fitted on: 200, as published, and 50 for conformal calibration."""
STUDY_ROWS = 1_000
"""Alpaca rows of the one-class study; the published one has 520."""
ONE_CLASS_SETTINGS: dict[str, dict[str, JsonValue]] = {
    "ours": {},
    "ours, punctuation kept": {"normalise": "none"},
    # Layer 20 of 24 in the paper; the same depth of 30.
    "published": {"template": "raw", "normalise": "none", "scorer": "sincos-gmm", "layers": [25]},
    "published, punctuation evened out": {"template": "raw", "scorer": "sincos-gmm", "layers": [25]},
}


def prompt_sets(folder: Path, *, small: bool) -> dict[str, list[Item]]:
    """Public prompt sets by name."""
    xstest = read_rows(folder, "xstest_a/prompts.csv", "prompt")
    texts = {
        "alpaca": [row.text for row in read_rows(folder, "alpaca_5k/instructions.csv", "instruction")],
        "xstest_safe": [row.text for row in xstest if row.fields["label"] == "safe"],
        "xstest_unsafe": [row.text for row in xstest if row.fields["label"] == "unsafe"],
        "advbench": [row.text for row in read_rows(folder, "advbench/harmful_behaviors.csv", "goal")],
        "do_not_answer": [row.text for row in read_rows(folder, "do_not_answer/prompts.csv", "prompt")],
        "catqa": [row.text for row in read_rows(folder, "catqa_english/prompts.csv", "prompt")],
    }
    return {name: prompt_items(each[:60] if small else each, name) for name, each in texts.items()}


def on_prompts(sets: Mapping[str, Sequence[Item]], detectors: Mapping[str, Detector]) -> dict[str, Json]:
    """Shares and rankings of every detector on the public sets."""
    scored = {}
    for name, items in sets.items():
        print(f"scoring {name}", file=sys.stderr, flush=True)
        scored[name] = score(detectors, items)
    found: dict[str, Json] = {}
    for detector in detectors:
        found[detector] = {
            "sets": {name: shares(scored[name][detector], is_harmful=name in HARMFUL) for name in scored},
            "comparisons": {
                name: comparison(
                    *(_joined([scored[one][detector] for one in side]) for side in sides),
                )
                for name, sides in COMPARISONS.items()
            },
        }
    return found


def on_own_held_back(detectors: Mapping[str, Detector], parts: Sequence[Part]) -> dict[str, Json]:
    """Shares and rankings on rows of our own set that no profile was fitted on."""
    found: dict[str, Json] = {name: {} for name in detectors}
    for part in parts:
        items = contrast_items(part, split="held-back")
        scored = score(detectors, items)
        for detector in detectors:
            harmful, harmless = (
                scored[detector].part([i for i, one in enumerate(items) if one.metadata["label"] == label])
                for label in ("harmful", "harmless")
            )
            figures: Json = {"harmless": shares(harmless, is_harmful=False)}
            if harmful.items:
                figures["harmful"] = shares(harmful, is_harmful=True)
                figures["ranking"] = comparison(harmful, harmless, groups="pair")
            if detector == "policy-embedded" and harmful.items:
                figures["category"] = category_accuracy(harmful)
            found[detector][part] = figures
    return found


def category_accuracy(harmful: Scored) -> Json:
    """Share of harmful rows whose strongest category is the row's own."""
    pairs = [
        (item.metadata["category"], verdict)
        for item, verdict in zip(harmful.items, harmful.verdicts, strict=True)
        if verdict.abstained is None
    ]
    right = [verdict.category == category for category, verdict in pairs]
    caught = [category == verdict.category for category, verdict in pairs if verdict.flagged]
    assessed = [name for name, value in pairs[0][1].categories.items() if value is not None] if pairs else []
    not_assessed: list[JsonValue] = [one.id for one in CATEGORIES if one.id not in assessed]
    return {
        "all_scored": rate_json(wilson(sum(right), len(right))),
        "among_flagged": rate_json(wilson(sum(caught), len(caught))),
        "not_assessed": not_assessed,
    }


def on_skills(folder: Path, detector: Detector) -> Json:
    """Real skills: flagged shares by publisher, and where the highest scores are."""
    items = list(open_source(folder / "skills", ignore=["manifest.csv"]).items())
    scored = score({"skills": detector}, items)["skills"]
    wild, reputable = (
        scored.part([i for i, one in enumerate(items) if one.origin.path.startswith(f"{WILD}/") is is_wild])
        for is_wild in (True, False)
    )
    flagged: list[JsonValue] = [
        item.origin.path
        for item, verdict in zip(reputable.items, reputable.verdicts, strict=True)
        if verdict.flagged
    ]
    return {
        "reputable": shares(reputable, is_harmful=False),
        "reputable_flagged_paths": flagged,
        "wild": shares(wild, is_harmful=True),
        "wild_published_share": PUBLISHED_WILD_SHARE,
        "highest": highest(scored, 20),
    }


def one_class_study(sets: Mapping[str, Sequence[Item]], *, small: bool) -> Json:
    """LatentBiopsy in our setting and as published, on two fit sources, punctuation kept and evened out.

    Fit rows and evaluated rows of Alpaca are disjoint. The baseline `final_punctuation` beside each ranking
    is the rule "has no final punctuation".
    """
    # By hash, so that neither the order of the file nor a random generator decides.
    alpaca = sorted(sets["alpaca"], key=lambda item: hashlib.sha256(item.text.encode()).digest())
    fit_rows = 40 if small else FIT_ROWS
    own = [
        item
        for item in contrast_items("requests", "lookalikes", "everyday", split="fit")
        if item.metadata["label"] == "harmless"
    ]
    own.sort(key=lambda item: hashlib.sha256(item.text.encode()).digest())
    sources = {"own harmless rows": own[:fit_rows], "Alpaca": alpaca[:fit_rows]}
    evaluated = {
        "alpaca": alpaca[fit_rows : fit_rows + STUDY_ROWS],
        **{name: sets[name] for name in ("advbench", "xstest_safe", "xstest_unsafe")},
    }
    found: Json = {"fit_rows": fit_rows, "alpaca_rows_evaluated": len(evaluated["alpaca"])}
    for setting, options in ONE_CLASS_SETTINGS.items():
        print(f"one-class study: {setting}", file=sys.stderr, flush=True)
        shared: dict[str, object] = {}
        detectors: dict[str, Detector] = {}
        for source, rows in sources.items():
            # Any given option makes the settings explicit; the scorer's default is the text's Gaussian.
            context = DetectorContext(options={"biopsy": {"scorer": "gaussian", **options}}, shared=shared)
            detector = create("biopsy", context)
            assert is_fittable(detector)
            detectors[source] = detector.fit(rows)
        scored = {name: score(detectors, items) for name, items in evaluated.items()}
        found[setting] = {
            source: {
                "advbench_vs_alpaca": comparison(scored["advbench"][source], scored["alpaca"][source]),
                "advbench_vs_xstest_safe": comparison(
                    scored["advbench"][source], scored["xstest_safe"][source]
                ),
                "xstest_unsafe_vs_safe": comparison(
                    scored["xstest_unsafe"][source], scored["xstest_safe"][source]
                ),
                "flagged_of_alpaca": shares(scored["alpaca"][source], is_harmful=False)["flagged"],
                "flagged_of_advbench": shares(scored["advbench"][source], is_harmful=True)["flagged"],
            }
            for source in sources
        }
    return found


def _joined(parts: Sequence[Scored]) -> Scored:
    return Scored(
        [item for part in parts for item in part.items], [one for part in parts for one in part.verdicts]
    )


def measure(folder: Path, names: Sequence[str], profile: Path | None, *, small: bool) -> dict[str, Json]:
    """Figures by detector."""
    shared: dict[str, object] = {}
    detectors = {name: create(name, DetectorContext(profile=profile, shared=shared)) for name in names}
    sets = prompt_sets(folder, small=small)
    # `policy-embedded` reads prompts at other blocks and with a longer window, in a pass of its own.
    found = on_prompts(sets, detectors)
    for name, figures in on_own_held_back(detectors, ("requests", "lookalikes", "everyday")).items():
        found[name]["held_back"] = figures
    if "policy-embedded" in detectors:
        policy = {"policy-embedded": detectors["policy-embedded"]}
        held_back = on_own_held_back(policy, ("skills", "plain_skills"))["policy-embedded"]
        found["policy-embedded"]["held_back_skills"] = held_back
        found["policy-embedded"]["skills"] = on_skills(folder, policy["policy-embedded"])
    if "biopsy" in detectors:
        found["biopsy"]["one_class_study"] = one_class_study(sets, small=small)
    for name, detector in detectors.items():
        found[name]["detector"] = dict(detector.identity)
    return found


def main() -> None:
    """Measure and write one result for each detector and profile."""
    parser = argparse.ArgumentParser(description="Accuracy on public and held-back rows.")
    parser.add_argument("--only", nargs="*", choices=PROMPT_DETECTORS, help="detectors (default: all)")
    parser.add_argument("--profile", type=Path, help="profile folder (default: shipped)")
    parser.add_argument("--small", action="store_true", help="a trial: 60 rows of each set")
    asked = parser.parse_args()
    found = measure(needed_data_folder(), asked.only or PROMPT_DETECTORS, asked.profile, small=asked.small)
    for name, figures in found.items():
        identity = figures["detector"]
        profile = identity.get("profile") if isinstance(identity, dict) else None
        suffix = f"-{profile}" if profile else ""
        write_result(f"{'trial-' if asked.small else ''}accuracy-{name}{suffix}", figures)


if __name__ == "__main__":
    main()
