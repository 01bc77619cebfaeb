"""`policy`: which categories of harm a skill's declared purpose or a text falls into, by a chat model.

The scorer of HarmfulSkillBench (arXiv 2604.15415, section 3; card 01), for skills and, beyond the paper, for
prompts, chats, fine-tuning samples and messages:

* `prompt`   the table of categories, the question, and what of an item is shown;
* `reply`    strict reading of the model's answer;
* `scoring`  means over passes, maximum over categories, strict threshold;
* `detector` asks, joins and reports.
"""

from tocsin.detect.policy.detector import Policy, PolicySettings

__all__ = ["Policy", "PolicySettings"]
