"""Fit the shipped profiles on our own contrast set and replies alone: `make profiles`.

Only rows of the split `fit` are used; `held-back` rows are for reporting. Thresholds, regularisation and
calibration are chosen by cross-fitting inside the split (see `tocsin.detect.linear_head`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tocsin.core.records import Item
from tocsin.core.registry import DetectorContext, create, is_fittable
from tocsin.detect.refusal import RefusalDetector, RefusalInContextDetector
from tocsin.detect.shipped import profiles_folder
from tocsin.sources.contrast import Part, contrast_items
from tocsin.sources.reply_set import replies

PARTS: dict[str, tuple[Part, ...]] = {
    "harmfulness": ("requests", "lookalikes", "everyday", "instructions"),
    "latent-guard": ("requests", "lookalikes", "everyday"),
    "policy-embedded": ("requests", "lookalikes", "everyday", "skills", "plain_skills"),
    "biopsy": ("requests", "lookalikes", "everyday"),
}

REFUSAL: dict[str, type[RefusalDetector]] = {
    "refusal": RefusalDetector,
    "refusal-in-context": RefusalInContextDetector,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and write every shipped profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=profiles_folder(), help="folder to write to")
    parser.add_argument("names", nargs="*", help="detectors to fit; all by default")
    chosen = parser.parse_args(arguments)
    context = DetectorContext(options={"biopsy": {"scorer": "gaussian"}})
    for name in chosen.names or (*PARTS, *REFUSAL):
        if name in REFUSAL:
            refusal = REFUSAL[name](context).fit_replies(replies())
            refusal.save(chosen.out / name)
            print(name, json.dumps(dict(refusal.profile.facts)))
            continue
        items = contrast_items(*PARTS[name], split="fit")
        harmful: list[Item] = [item for item in items if item.metadata["label"] == "harmful"]
        harmless = [item for item in items if item.metadata["label"] == "harmless"]
        detector = create(name, context)
        if not is_fittable(detector):
            print(f"{name} cannot be fitted", file=sys.stderr)
            return 1
        fitted = detector.fit(harmless, None if name == "biopsy" else harmful)
        fitted.save(chosen.out / name)
        facts = json.loads((chosen.out / name / "profile.json").read_text("utf-8"))["facts"]
        print(name, json.dumps({key: value for key, value in facts.items() if key not in {"head", "inputs"}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
