"""The trained testbed: made once for each seed, then kept as an ordinary checkpoint in the cache folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.core.errors import MissingExtraError, ModelError, UsageError
from tocsin.core.home import home
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel, load_local
from tocsin.models.template import ChatTemplate
from tocsin.models.tokens import TextTokenizer
from tocsin.testbed.language import vocabulary
from tocsin.testbed.planted import PlantedTruth, build_planted
from tocsin.testbed.tokenizer import SPECIAL, TEMPLATE, make_tokenizer
from tocsin.testbed.training import TestbedSettings, train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_VERSION = 1
"""Raised when language or training change, so that old checkpoints are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class Testbed:
    """A testbed model behind the common interface.

    Attributes:
        model: For studies; `model.torch_model` is the LlamaForCausalLM.
        tokenizer: As transformers has it.
        settings: What it was trained with; None for a planted model.
        folder: Its checkpoint; None where it exists in memory only.
        truth: Where its mechanisms are; None for a trained model.
    """

    __test__ = False  # pytest takes the name for a test's

    model: LocalModel
    tokenizer: PreTrainedTokenizerFast
    settings: TestbedSettings | None = None
    folder: Path | None = None
    truth: PlantedTruth | None = None

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a reply."""
        return (int(self.tokenizer.eos_token_id),)


def load_testbed(settings: TestbedSettings | None = None, *, device: str | None = "cpu") -> Testbed:
    """The trained testbed of these settings, trained at first use (about a minute on two cores).

    Args:
        settings: Seed and sizes; those of seed 0 when None.
        device: Where it runs. It is always trained on the CPU.

    Raises:
        MissingExtraError: If the extra `local` is not installed.
        ModelError: If the cache folder cannot be written.
    """
    _needs_torch()
    chosen = settings or TestbedSettings()
    folder = checkpoint_folder(chosen)
    tokenizer = make_tokenizer()
    if not (folder / "config.json").is_file():
        _write(folder, train(chosen, tokenizer), tokenizer)
    return Testbed(load_local(folder, offline=True, device=device), tokenizer, chosen, folder)


def speaks_testbed(model: LocalModel) -> bool:
    """Whether a model knows the words of the testbeds' language and no others, whatever it is called."""
    return model.vocabulary.keys() == {*SPECIAL, *vocabulary()}


def checkpoint_folder(settings: TestbedSettings) -> Path:
    """Where a testbed is kept, whether or not it was trained."""
    facts = [_VERSION, vocabulary(), TEMPLATE, asdict(settings)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return home() / "testbed" / f"testbed-{settings.seed}-{digest}"


def load_planted(seed: int = 0) -> Testbed:
    """A planted model, with its truth; made in a moment, in memory.

    Raises:
        MissingExtraError: If the extra `local` is not installed.
    """
    _needs_torch()
    model, tokenizer, truth = build_planted(seed)
    return Testbed(in_memory(model, tokenizer, f"planted-{seed}"), tokenizer, truth=truth)


def in_memory(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str) -> LocalModel:
    """A model of the testbed's language behind the activation interface; its revision is its digest."""
    from tokenizers import Tokenizer

    return LocalModel(
        model,
        TextTokenizer(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())),
        ChatTemplate(TEMPLATE, eos_token=str(tokenizer.eos_token)),
        id=name,
        revision=weights_digest(model)[:16],
    )


def parse_testbed(spec: str) -> TestbedSettings | int | None:
    """What `--model` means by `testbed`, `testbed:SEED` or `planted:SEED`; None for any other name.

    Returns:
        Settings of a trained testbed, or the seed of a planted one.

    Raises:
        UsageError: If the seed is no number.
    """
    name, _, seed = spec.strip().partition(":")
    if name not in {"testbed", "planted"}:
        return None
    if seed and not (seed.isascii() and seed.isdigit()):
        message = f"'{spec}' names no testbed. Expected 'testbed', 'testbed:SEED' or 'planted:SEED'."
        raise UsageError(message)
    number = int(seed or 0)
    return TestbedSettings(seed=number) if name == "testbed" else number


def open_testbed(spec: str, *, device: str | None = "cpu") -> Testbed | None:
    """The testbed behind a name, or None for a name of another kind (see `parse_testbed`)."""
    parsed = parse_testbed(spec)
    if parsed is None:
        return None
    return load_planted(parsed) if isinstance(parsed, int) else load_testbed(parsed, device=device)


def _needs_torch() -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(extra="local", purpose="the testbed") from error


def _write(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Beside its place first, so that other processes see all of it or none."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
        try:
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            if not folder.exists():
                part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if (folder / "config.json").is_file():
            return  # another process was first, with equal weights
        message = (
            f"the testbed cannot be kept in {folder.parent} ({error.strerror}). Free some space, or set "
            "TOCSIN_HOME to a folder that can be written."
        )
        raise ModelError(message) from error
