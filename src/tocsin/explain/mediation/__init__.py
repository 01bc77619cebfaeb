"""Causal mediation of harmful generation (arXiv 2604.11663, method card 05)."""

from tocsin.explain.mediation.data import PromptPair
from tocsin.explain.mediation.records import Effect, Gate, Level, MediationStudy
from tocsin.explain.mediation.settings import COMPLIANT, REFUSING, MediationSettings
from tocsin.explain.mediation.study import study_mediation

__all__ = [
    "COMPLIANT",
    "REFUSING",
    "Effect",
    "Gate",
    "Level",
    "MediationSettings",
    "MediationStudy",
    "PromptPair",
    "study_mediation",
]
