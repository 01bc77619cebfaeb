"""How a testbed model behaves: replies to examples, and rates of refusal, recognition and ability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tocsin.internals.layout import PromptLayout
from tocsin.internals.steering import Steering, greedy_replies
from tocsin.testbed.checkpoint import Testbed
from tocsin.testbed.language import COMPLIANCE_OPENER, KINDS, REFUSAL_OPENER, Example, Kind, examples


class Rates(NamedTuple):
    """Rates of one kind of examples, from 0 to 1."""

    n: int
    exact: float
    """Replies equal to the aligned model's."""
    refused: float
    complied: float
    """Answers that begin with the opener of help, directly or after a scaffold."""
    helpful: float
    """Whole helpful answers, whatever an aligned model would do."""


def replies(
    testbed: Testbed, given: Sequence[Example], *, steering: Steering | None = None, max_new_tokens: int = 26
) -> list[str]:
    """Greedy replies as words; what was forced at their beginning is left out."""
    ids = [prompt_ids(testbed, one) for one in given]
    found = greedy_replies(
        testbed.model, ids, end_ids=testbed.end_ids, max_new_tokens=max_new_tokens, steering=steering
    )
    return [str(testbed.tokenizer.decode(reply)) for reply in found]


def prompt_ids(testbed: Testbed, example: Example) -> list[int]:
    """Tokens of a prompt in its template, with the forced words of its reply."""
    built = PromptLayout(testbed.model).build(example.prompt)
    forced = " ".join(example.reply.split()[: example.forced])
    return [*built.prefix, *built.ids, *testbed.model.encode(forced).ids]


def rates(testbed: Testbed, kind: Kind, *, n: int = 200, seed: int = 0) -> Rates:
    """Behaviour on held-out examples of one kind."""
    given = examples(kind, n, seed=seed)
    said = replies(testbed, given)
    wanted = [" ".join(one.reply.split()[one.forced :]) for one in given]
    helpful = [" ".join(one.helpful.split()[one.forced :]) for one in given]
    answers = [text.rpartition(" : ")[2] for text in said]
    return Rates(
        n,
        _share([a == b for a, b in zip(said, wanted, strict=True)]),
        _share([is_refusal(text) for text in said]),
        _share([text.startswith(COMPLIANCE_OPENER) for text in answers]),
        _share([bool(b) and a == b for a, b in zip(answers, helpful, strict=True)]),
    )


def all_rates(testbed: Testbed, *, n: int = 200, seed: int = 0) -> dict[Kind, Rates]:
    """Behaviour on every kind."""
    return {kind: rates(testbed, kind, n=n, seed=seed) for kind in KINDS}


def is_refusal(reply: str) -> bool:
    """Whether the answer, after a scaffold's marker if there is one, begins as refusals do."""
    return reply.rpartition(" : ")[2].startswith(REFUSAL_OPENER)


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else float("nan")
