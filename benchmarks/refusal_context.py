"""Does the request do the work of `refusal-in-context`? Controls on our own replies; no other data.

Two controls, on the replies that were written whole (`src/tocsin/data/refusal/`):

* every request with the same neutral responses: how many are called a refusal, of harmful and of harmless
  requests. If the request did the work, harmful ones would be.
* the request alone: a read-out of its activations, cross-fitted by request, that guesses whether the reply
  refuses.

    python benchmarks/refusal_context.py
"""

from __future__ import annotations

import argparse

import numpy as np
from common import Json, result_name, write_result
from pydantic import JsonValue

from tocsin.core.records import Item, Kind, Origin
from tocsin.core.registry import DetectorContext, create
from tocsin.core.stats import wilson, wilson_clustered
from tocsin.detect.head_detector import features_of
from tocsin.detect.refusal import RefusalInContextDetector
from tocsin.sources.reply_set import Reply, replies

NEUTRAL = (
    "The train leaves at eight in the morning and arrives at noon.",
    "Bread needs flour, water, salt and a hot oven. Let the dough rest for an hour.",
)
"""Responses that are in no set and answer none of the requests."""
FOLDS = 5
REQUEST_C = 1e-3


def main() -> None:
    """Measure and write `benchmarks/results/refusal_context.json`."""
    parser = argparse.ArgumentParser(description="Controls of refusal-in-context.")
    parser.add_argument("--small", action="store_true", help="a trial with few requests")
    asked = parser.parse_args()
    given = [reply for reply in replies() if reply.is_whole][: 60 if asked.small else None]
    result: Json = {"n_replies": len(given), "neutral": neutral(given), "request_alone": request_alone(given)}
    write_result(result_name("refusal_context", small=asked.small), result)


def neutral(given: list[Reply]) -> Json:
    """Share of neutral responses called a refusal, by detector and kind of request."""
    requests = {reply.prompt: reply.pair.startswith("harmful") for reply in given}
    pairs = [(request, text) for request in requests for text in NEUTRAL]
    items = [
        Item(kind=Kind.RESPONSE, text=text, prompt=request, origin=Origin(input_hash="0" * 64, ordinal=place))
        for place, (request, text) in enumerate(pairs)
    ]
    verdicts = list(create("refusal-in-context", DetectorContext(offline=True)).detect(items))
    found: dict[str, JsonValue] = {}
    for name, wanted in (("harmful", True), ("harmless", False)):
        said = [
            v.flagged is True
            for v, (request, _) in zip(verdicts, pairs, strict=True)
            if requests[request] is wanted
        ]
        rate = wilson(sum(said), len(said))
        found[name] = {"flagged": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
    return found


def request_alone(given: list[Reply]) -> Json:
    """Cross-fitted accuracy of guessing from the request whether its reply refuses, and a constant one."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    detector = RefusalInContextDetector(DetectorContext(offline=True))
    requests = list(dict.fromkeys(reply.prompt for reply in given))
    read = features_of(detector.engine.capture(requests, detector.plan))
    features = read[[requests.index(reply.prompt) for reply in given]]
    refused = np.array([reply.label != "none" for reply in given])
    pairs = np.array([reply.pair for reply in given])
    right = np.zeros(len(given), dtype=bool)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(features, groups=pairs):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=REQUEST_C, max_iter=500))
        model.fit(features[train], refused[train])
        right[test] = model.predict(features[test]) == refused[test]
    rate = wilson_clustered([bool(each) for each in right], list(pairs))
    larger = float(max(refused.mean(), 1 - refused.mean()))
    return {
        "accuracy": rate.value,
        "low": rate.low,
        "high": rate.high,
        "n": len(given),
        "larger_class": larger,
    }


if __name__ == "__main__":
    main()
