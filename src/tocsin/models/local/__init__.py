"""Hugging Face models through transformers (extra `local`): causal language models, and classifiers."""

from tocsin.models.local.classifier import TextClassifier
from tocsin.models.local.load import load_classifier, load_local
from tocsin.models.local.model import LocalModel

__all__ = ["LocalModel", "TextClassifier", "load_classifier", "load_local"]
