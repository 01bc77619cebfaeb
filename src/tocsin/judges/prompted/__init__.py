"""Judges that are a prompt to a chat model: what card 06 (arXiv 2509.24384) compares, and HarmJudge by heads.

* `reading`  strict readers of replies, one for each published output format;
* `wording`  what is asked; the words are ours, scales and formats those of the publications;
* `rubrics`  the judges: wording, reader, scale and rule of each;
* `judge`    asks in rounds, retries, averages, abstains.
"""

from tocsin.judges.prompted.judge import PromptedJudge, PromptedSettings
from tocsin.judges.prompted.rubrics import RUBRICS

__all__ = ["RUBRICS", "PromptedJudge", "PromptedSettings"]
