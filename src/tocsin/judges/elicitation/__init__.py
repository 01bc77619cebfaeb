"""Responses of several models to the same prompts, and rankings of them by chat models (arXiv 2502.05291)."""

from tocsin.judges.elicitation.orders import balanced_orders
from tocsin.judges.elicitation.responses import Candidate, ResponseError, ResponseSet, read_responses

__all__ = ["Candidate", "ResponseError", "ResponseSet", "balanced_orders", "read_responses"]
