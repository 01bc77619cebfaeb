"""Activation capture, token positions and windows: what white-box detectors and studies share."""

from tocsin.internals.capture import Activations, CaptureEngine, CapturePlan, capture_engine
from tocsin.internals.layout import Position, PromptLayout, PromptTokens
from tocsin.internals.windows import Window, split_windows

__all__ = [
    "Activations",
    "CaptureEngine",
    "CapturePlan",
    "Position",
    "PromptLayout",
    "PromptTokens",
    "Window",
    "capture_engine",
    "split_windows",
]
