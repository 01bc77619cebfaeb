"""Reference metrics that compare words: ROUGE, METEOR, BLEU, chrF, token F1, TF-IDF; and plain length.

Registered as judges of responses when imported. All are as good as their reference: they show how near a
response comes to a known harmful answer, and audit other judges; no new prompt has such an answer (card 06,
section 10).
"""

from tocsin.judges.lexical.metrics import BASELINES, METRICS

__all__ = ["BASELINES", "METRICS"]
