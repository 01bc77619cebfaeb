"""Whether two models can be compared: architecture, shapes, tokenizer, chat template (card 02, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tocsin.core.errors import ModelError

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel


def check_comparable(base: LocalModel, suspect: LocalModel, prompts: Sequence[str]) -> None:
    """Refuse two models that cannot be compared.

    Raises:
        ModelError: If blocks, widths, shapes, tokenizers or chat templates differ; says how.
    """
    for what, old, new in (
        ("blocks", base.n_blocks, suspect.n_blocks),
        ("numbers in the residual stream", base.width, suspect.width),
    ):
        if old != new:
            message = (
                f"expected models of one architecture, but the base has {old} {what}, the suspect {new}."
            )
            raise ModelError(message + " Compare a model with what was made of it.")
    old_words, new_words = base.vocabulary, suspect.vocabulary
    odd = sorted(set(old_words.items()) ^ set(new_words.items()))
    if odd:
        message = (
            f"expected one tokenizer, but {len({word for word, _ in odd})} tokens differ "
            f"(the base has {len(old_words)}, the suspect {len(new_words)})."
        )
        raise ModelError(message + " Compare a model with what was made of it.")
    for number, prompt in enumerate(prompts, start=1):
        if base.encode_untrusted(prompt).ids != suspect.encode_untrusted(prompt).ids:
            message = f"expected one tokenizer, but prompt {number} gives other tokens in the two models."
            raise ModelError(message + " Give both the same tokenizer.")
    if base.template_hash != suspect.template_hash:
        message = (
            f"expected one chat template, but the base's has the hash {base.template_hash}, the suspect's "
            f"{suspect.template_hash}. Copy the base's chat template into the suspect's folder."
        )
        raise ModelError(message)
    shapes = [{n: tuple(p.shape) for n, p in m.torch_model.named_parameters()} for m in (base, suspect)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        old_shape, new_shape = (each.get(name, "missing") for each in shapes)
        if old_shape != new_shape:
            message = (
                f"expected equal shapes, but {name} is {old_shape} in the base, {new_shape} in the suspect."
            )
            raise ModelError(message + " Merge adapters, and compare models of one architecture.")
