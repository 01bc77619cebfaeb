"""What a model does: answers to harmful prompts, its own assessment of them, and after a scaffold.

Every function returns arrays of outcomes, one for each prompt, 1, 0 or NaN where unknown; no text leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tocsin.core.records import Turn
from tocsin.explain.audit.data import ReplyJudge, Wording
from tocsin.explain.audit.resampling import Floats, flags
from tocsin.explain.audit.speaking import Speaker
from tocsin.explain.audit.wording import Assessment, parse_assessment
from tocsin.internals.steering import Steering

Outcomes = dict[str, Floats]


def direct(
    speaker: Speaker,
    judge: ReplyJudge,
    harmful: Sequence[str],
    harmless: Sequence[str],
    max_new_tokens: int,
    *,
    steering: Steering | None = None,
) -> Outcomes:
    """Stage A: prompts as they are, with a vector added while they are read where one is given.

    Returns:
        `harmful`: replies that help with harm; `refused`: harmless prompts refused.
    """
    bad = speaker.replies(harmful, max_new_tokens, steering=steering)
    good = speaker.replies(harmless, max_new_tokens, steering=steering)
    return {
        "harmful": flags(judge.harmful(harmful, bad)),
        "refused": flags(judge.refused(harmless, good)),
    }


def self_assessment(
    speaker: Speaker,
    judge: ReplyJudge,
    wording: Wording,
    prompts: Sequence[str],
    max_new_tokens: int,
    *,
    are_harmful: bool,
) -> Outcomes:
    """Stage B: a new conversation for each prompt, in which the model assesses it as quoted data.

    Returns:
        `is_harmful`, `would_refuse` (NaN where it could not be read), `safe` (whether the safe response it
        gave for a harmful prompt is not harmful, by the judge), `mended` (read at the second attempt),
        `refused` (it refused to assess).
    """
    asked = [wording.self_audit(prompt) for prompt in prompts]
    said = speaker.replies(asked, max_new_tokens)
    read: list[Assessment | None] = [parse_assessment(reply) for reply in said]
    mended = np.zeros(len(prompts))
    open_ones = [i for i, found in enumerate(read) if found is None]
    if open_ones and wording.mend is not None:
        contexts = [
            (Turn(role="user", text=asked[i]), Turn(role="assistant", text=said[i])) for i in open_ones
        ]
        again = speaker.replies([wording.mend] * len(open_ones), max_new_tokens, contexts=contexts)
        for i, reply in zip(open_ones, again, strict=True):
            read[i] = parse_assessment(reply)
            mended[i] = float(read[i] is not None)
    refused = np.zeros(len(prompts))
    left = [i for i, found in enumerate(read) if found is None]
    if left:
        refused[left] = flags(judge.refused([asked[i] for i in left], [said[i] for i in left]))
    safe = np.full(len(prompts), np.nan)
    given = {
        i: found.safe_response
        for i, found in enumerate(read)
        if are_harmful and found is not None and found.safe_response.strip()
    }
    if given:
        judged = flags(judge.harmful([prompts[i] for i in given], list(given.values())))
        safe[list(given)] = 1 - judged
    return {
        "is_harmful": flags(None if found is None else found.is_harmful for found in read),
        "would_refuse": flags(None if found is None else found.would_refuse for found in read),
        "safe": safe,
        "mended": mended,
        "refused": refused,
    }


def scaffolded(
    speaker: Speaker,
    judge: ReplyJudge,
    wording: Wording,
    harmful: Sequence[str],
    harmless: Sequence[str],
    max_new_tokens: int,
) -> Outcomes:
    """Stage C: the reflective scaffold, its neutral control, and its cost on harmless prompts.

    Only what follows the marker is judged, since a preamble about safety sways judges.

    Returns:
        `reflect` and `plan`: harmful replies to harmful prompts; `refused`: harmless prompts refused after
        reflection; `marked`: whether reflected replies had their marker; `whole`: the judge on the whole
        reflected reply, which should say the same.
    """
    reflected = speaker.replies([wording.reflect(prompt) for prompt in harmful], max_new_tokens)
    planned = speaker.replies([wording.plan(prompt) for prompt in harmful], max_new_tokens)
    benign = speaker.replies([wording.reflect(prompt) for prompt in harmless], max_new_tokens)
    answers = [wording.answer(reply) for reply in reflected]
    return {
        "reflect": flags(judge.harmful(harmful, [text for text, _ in answers])),
        "plan": flags(judge.harmful(harmful, [wording.answer(reply)[0] for reply in planned])),
        "refused": flags(judge.refused(harmless, [wording.answer(reply)[0] for reply in benign])),
        "marked": flags(found for _, found in answers),
        "whole": flags(judge.harmful(harmful, reflected)),
    }
