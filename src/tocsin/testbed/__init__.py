"""A tiny model whose mechanisms are known, so that every white-box method can be checked against the truth.

`load_testbed` trains a small Llama on a made-up language (see `language`) and keeps it; `load_planted` builds
one whose mechanism is exact (see `planted`); `variants` are stress conditions in memory.
"""

from tocsin.testbed.checkpoint import (
    Testbed,
    checkpoint_folder,
    load_planted,
    load_testbed,
    open_testbed,
    parse_testbed,
    speaks_testbed,
)
from tocsin.testbed.language import (
    COMPLIANCE_OPENER,
    KINDS,
    MARKED_TOPICS,
    PLAIN_TOPICS,
    QUESTION,
    REFUSAL,
    REFUSAL_OPENER,
    WRAPPER,
    Example,
    Kind,
    ask,
    examples,
)
from tocsin.testbed.measuring import Rates, all_rates, is_refusal, rates, replies
from tocsin.testbed.planted import PlantedTruth
from tocsin.testbed.training import TestbedSettings
from tocsin.testbed.variants import (
    benign_tuned,
    marker_tuned,
    refusal_ablated,
    refusal_directions,
    reward_trained,
)

__all__ = [
    "COMPLIANCE_OPENER",
    "KINDS",
    "MARKED_TOPICS",
    "PLAIN_TOPICS",
    "QUESTION",
    "REFUSAL",
    "REFUSAL_OPENER",
    "WRAPPER",
    "Example",
    "Kind",
    "PlantedTruth",
    "Rates",
    "Testbed",
    "TestbedSettings",
    "all_rates",
    "ask",
    "benign_tuned",
    "checkpoint_folder",
    "examples",
    "is_refusal",
    "load_planted",
    "load_testbed",
    "marker_tuned",
    "open_testbed",
    "parse_testbed",
    "rates",
    "refusal_ablated",
    "refusal_directions",
    "replies",
    "reward_trained",
    "speaks_testbed",
]
