"""What a model does while a direction is added at the input of a block: does it refuse, does it recognise?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.explain.directions.data import DirectionSettings
from tocsin.explain.directions.geometry import Floats, share_estimate
from tocsin.explain.directions.observed import Observer
from tocsin.explain.directions.records import Steered
from tocsin.internals.steering import Steering

LEAST_RATIO = 0.05
"""A refusal direction shorter than this part of the harmfulness direction is not scaled up and added."""


class _Plan(NamedTuple):
    """One direction, added at one row while prompts of one label are read."""

    row: int
    prompts: Literal["harmless", "harmful"]
    direction: Literal["none", "harmfulness", "refusal", "random"]
    sign: Literal[-1, 0, 1]


class SteeringTest:
    """Steered replies of one model.

    Args:
        observer: Of the model.
        settings: Of the study.
        harm: Direction of harmfulness at each row, shape (rows, width).
        gate: Direction of refusal, where there is one.
    """

    def __init__(
        self, observer: Observer, settings: DirectionSettings, *, harm: Floats, gate: Floats | None
    ) -> None:
        self.observer = observer
        self.model = observer.model
        self.settings = settings
        self.harm = harm
        drawn = np.random.default_rng(settings.seed).normal(size=(self.model.n_blocks, self.model.width))
        self.vectors = {"harmfulness": harm, "random": drawn, "refusal": gate}

    def run(self, harmful: Sequence[str], harmless: Sequence[str]) -> tuple[Steered, ...]:
        """Results of the held-out prompts, the first of each label: without a direction, then row by row."""
        plans = self._plans()
        found = []
        for done, plan in enumerate(plans):
            self.observer.progress("steering", done, len(plans))
            texts = harmful if plan.prompts == "harmful" else harmless
            found.append(self._steered(texts[: self.settings.n_steered], plan))
        return tuple(found)

    def _plans(self) -> list[_Plan]:
        """Directions are added to harmless prompts and taken from harmful ones."""
        last = self.model.n_blocks - 1
        rows = sorted({round(row) for row in np.linspace(min(1, last), last, self.settings.n_rows)})
        gate = self.vectors["refusal"]
        plans = [_Plan(0, "harmless", "none", 0), _Plan(0, "harmful", "none", 0)]
        for row in rows:
            names: list[Literal["harmfulness", "refusal", "random"]] = ["harmfulness", "random"]
            size = float(np.linalg.norm(self.harm[row]))
            if size == 0:
                # Such as the embeddings of prompts that all end alike: there is no length to add at.
                continue
            if gate is not None and float(np.linalg.norm(gate[row])) >= LEAST_RATIO * size:
                names.insert(1, "refusal")
            plans += [_Plan(row, "harmless", name, 1) for name in names]
            plans += [_Plan(row, "harmful", name, -1) for name in names]
        return plans

    def _steered(self, texts: Sequence[str], plan: _Plan) -> Steered:
        """All directions are added at the length of the harmfulness direction, so that they compare."""
        row, name = plan.row, plan.direction

        def make() -> dict[str, NDArray[np.generic]]:
            direct = asked = None
            given = self.vectors.get(name)
            if given is not None:
                vector = given[row]
                size = float(np.linalg.norm(self.harm[row])) / float(np.linalg.norm(vector))
                values = (vector * size).astype(np.float32)
                direct = Steering(row, values, plan.sign * self.settings.coefficient)
                # The vector of harmfulness is added to the request only, that of refusal everywhere.
                last = 0 if name == "refusal" else self._after_request()
                asked = Steering(row, values, plan.sign * self.settings.coefficient, last)
            question = self.observer.data.question
            whole = [f"{question.before}{text}{question.after}" for text in texts]
            answers = [question.reads(reply) for reply in self.observer.replies(self.model, whole, asked)]
            return {
                "refused": np.array(self.observer.refusals(self.model, texts, direct), dtype=bool),
                "answers": np.array([-1 if a is None else int(a) for a in answers]),
            }

        kept = self.observer.stages.arrays(f"steer-{plan.prompts}-{name}-{row}", make)
        refused, answers = kept["refused"].astype(np.bool_), kept["answers"].astype(np.int64)
        valid = answers[answers >= 0]
        return Steered(
            row=row,
            prompts=plan.prompts,
            direction=name,
            sign=plan.sign,
            n=len(texts),
            refused=share_estimate(refused),
            says_no=share_estimate(valid == 0),
            n_invalid=len(answers) - len(valid),
        )

    def _after_request(self) -> int:
        """Tokens of the question and of the template's tail."""
        built = self.observer.layout.build("a")
        tail = len(built.ids) - 1 - built.inst
        return tail + len(self.model.encode_untrusted(self.observer.data.question.after).ids)
