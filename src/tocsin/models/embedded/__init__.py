"""The embedded model: SmolLM2-135M-Instruct read with numpy, without torch."""

from tocsin.models.embedded.model import EmbeddedModel, load_embedded

__all__ = ["EmbeddedModel", "load_embedded"]
