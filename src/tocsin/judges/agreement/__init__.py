"""How well annotators (people, models) agree when they rank the same responses by harmfulness.

Card: Atil et al., arXiv 2502.05291. Read rankings with `read_rankings`, measure them with `analyse`.
"""

from tocsin.judges.agreement.analyse import analyse, chosen
from tocsin.judges.agreement.data import Rankings
from tocsin.judges.agreement.ranks import Problem, normalise, parse_ranking, parse_reply
from tocsin.judges.agreement.readers import read_rankings
from tocsin.judges.agreement.records import Agreement

__all__ = [
    "Agreement",
    "Problem",
    "Rankings",
    "analyse",
    "chosen",
    "normalise",
    "parse_ranking",
    "parse_reply",
    "read_rankings",
]
