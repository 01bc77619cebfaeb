"""Tocsin finds, measures, explains, reduces and traces harm in LLM systems.

Everything the command line does is a typed function here::

    import tocsin

    result = tocsin.scan("prompts.jsonl")
    for verdict in result.flagged():
        print(verdict.key, verdict.score, verdict.category)

Names are loaded when they are first used, so that `import tocsin` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.api.agree import AgreementStudy, judge_agreement
    from tocsin.api.elicit import Elicitation, elicit
    from tocsin.api.evaluate import evaluate
    from tocsin.api.fit import fit
    from tocsin.api.model_annotators import ModelRankings, annotate_responses
    from tocsin.api.progress import Progress
    from tocsin.api.rank import RankStudy, rank_judges
    from tocsin.api.scan import ScanResult, scan
    from tocsin.api.train_judge import train_judge
    from tocsin.core.errors import (
        FitError,
        InputError,
        MissingExtraError,
        ModelError,
        ProfileError,
        RunError,
        TocsinError,
        UsageError,
    )
    from tocsin.core.records import Abstention, Item, Kind, Origin, Reason, Skill, Turn, Verdict
    from tocsin.core.registry import DetectorContext, detector, detectors

_HOMES = {
    "tocsin.api.agree": ("AgreementStudy", "judge_agreement"),
    "tocsin.api.elicit": ("Elicitation", "elicit"),
    "tocsin.api.evaluate": ("evaluate",),
    "tocsin.api.fit": ("fit",),
    "tocsin.api.model_annotators": ("ModelRankings", "annotate_responses"),
    "tocsin.api.progress": ("Progress",),
    "tocsin.api.rank": ("RankStudy", "rank_judges"),
    "tocsin.api.scan": ("ScanResult", "scan"),
    "tocsin.api.trace": ("trace_log",),
    "tocsin.api.train_judge": ("train_judge",),
    "tocsin.core.errors": (
        "FitError",
        "InputError",
        "MissingExtraError",
        "ModelError",
        "ProfileError",
        "RunError",
        "TocsinError",
        "UsageError",
    ),
    "tocsin.core.records": ("Abstention", "Item", "Kind", "Origin", "Reason", "Skill", "Turn", "Verdict"),
    "tocsin.core.registry": ("DetectorContext", "detector", "detectors"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Abstention",
    "AgreementStudy",
    "DetectorContext",
    "Elicitation",
    "FitError",
    "InputError",
    "Item",
    "Kind",
    "MissingExtraError",
    "ModelError",
    "ModelRankings",
    "Origin",
    "ProfileError",
    "Progress",
    "RankStudy",
    "Reason",
    "RunError",
    "ScanResult",
    "Skill",
    "TocsinError",
    "Turn",
    "UsageError",
    "Verdict",
    "annotate_responses",
    "detector",
    "detectors",
    "elicit",
    "evaluate",
    "fit",
    "judge_agreement",
    "rank_judges",
    "scan",
    "trace_log",
    "train_judge",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in."""
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module 'tocsin' has no attribute '{name}'"
        raise AttributeError(message)
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
