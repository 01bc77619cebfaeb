"""Any Hugging Face causal language model, read through transformers (extra `local`)."""

from tocsin.models.local.load import load_local
from tocsin.models.local.model import LocalModel

__all__ = ["LocalModel", "load_local"]
