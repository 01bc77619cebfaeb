"""Guard models as judges of responses: models that were trained to tell safe from unsafe.

* `guard`       what a guard is: questions, answers, and how they are read;
* `frames`      the published formats, which models were trained on, and which are kept to the letter;
* `replies`     strict readers of what a guard writes;
* `families`    Llama Guard, WildGuard, ShieldGemma, Granite Guardian, HarmBench's;
* `judge`       guards as detectors;
* `likelihood`  asks local weights in forward passes: the probability of the answers, without writing;
* `provided`    asks a provider, which gives an answer only;
* `gptfuzzer`   GPTFuzzer's classifier, which reads the response alone.

The weights are not part of this project and were not at hand: formats and readers are tested, levels are not
shown.
"""

from tocsin.judges.guards import gptfuzzer as _gptfuzzer
from tocsin.judges.guards.families import FAMILIES
from tocsin.judges.guards.guard import Family, Guard, Question, Step
from tocsin.judges.guards.judge import GuardJudge

__all__ = ["FAMILIES", "Family", "Guard", "GuardJudge", "Question", "Step"]

_REGISTERED = (_gptfuzzer,)
