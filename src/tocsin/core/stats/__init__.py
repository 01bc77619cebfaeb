"""Statistics that stand beside every number the package reports.

Rates and their intervals, ranking metrics, calibration, corrections for many tests, and prevalence corrected
for a detector's errors. Importing this package loads numpy only; scipy loads inside the functions that need
it.
"""

from tocsin.core.stats.bootstrap import bootstrap_interval
from tocsin.core.stats.calibration import CalibrationBin, brier, expected_calibration_error, reliability_bins
from tocsin.core.stats.intervals import Rate, wilson, wilson_clustered
from tocsin.core.stats.multiplicity import benjamini_hochberg, holm
from tocsin.core.stats.prevalence import rogan_gladen
from tocsin.core.stats.ranking import (
    RankingIntervals,
    auroc,
    auroc_interval,
    average_precision,
    ranking_intervals,
    recall_at_fpr,
)

__all__ = [
    "CalibrationBin",
    "RankingIntervals",
    "Rate",
    "auroc",
    "auroc_interval",
    "average_precision",
    "benjamini_hochberg",
    "bootstrap_interval",
    "brier",
    "expected_calibration_error",
    "holm",
    "ranking_intervals",
    "recall_at_fpr",
    "reliability_bins",
    "rogan_gladen",
    "wilson",
    "wilson_clustered",
]
