"""Harmfulness and refusal as two directions in a model (arXiv 2507.11878, method card 03)."""

from tocsin.explain.directions.data import DirectionData, DirectionSettings, Question, Variant
from tocsin.explain.directions.records import Bucket, DirectionStudy, Layer, Steered, Tuned
from tocsin.explain.directions.study import study_directions

__all__ = [
    "Bucket",
    "DirectionData",
    "DirectionSettings",
    "DirectionStudy",
    "Layer",
    "Question",
    "Steered",
    "Tuned",
    "Variant",
    "study_directions",
]
