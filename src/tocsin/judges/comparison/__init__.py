"""Whether models differ in harmfulness, given one annotator's rankings of their responses."""

from tocsin.judges.comparison.compare import compare
from tocsin.judges.comparison.strengths import bradley_terry, plackett_luce

__all__ = ["bradley_terry", "compare", "plackett_luce"]
