"""The few weights a model needs in order to write harmful responses (arXiv 2604.09544, method card 12)."""

from tocsin.explain.weights.data import Example, WeightData
from tocsin.explain.weights.records import Change, Condition, WeightStudy
from tocsin.explain.weights.settings import WeightSettings
from tocsin.explain.weights.study import Found, study_weights

__all__ = [
    "Change",
    "Condition",
    "Example",
    "Found",
    "WeightData",
    "WeightSettings",
    "WeightStudy",
    "study_weights",
]
