"""HarmMetric Eval: prompts with responses whose order of harm is known, and what judges make of them."""

from tocsin.judges.benchmark.analyse import JudgeScores, rank_scores
from tocsin.judges.benchmark.data import Benchmark, Category
from tocsin.judges.benchmark.readers import read_benchmark
from tocsin.judges.benchmark.records import JudgeRanking, JudgeScore
from tocsin.judges.benchmark.score_files import read_scores

__all__ = [
    "Benchmark",
    "Category",
    "JudgeRanking",
    "JudgeScore",
    "JudgeScores",
    "rank_scores",
    "read_benchmark",
    "read_scores",
]
