"""Full, partial or no refusal, from the activations of a response."""

from tocsin.detect.refusal.detector import RefusalDetector, RefusalInContextDetector

__all__ = ["RefusalDetector", "RefusalInContextDetector"]
