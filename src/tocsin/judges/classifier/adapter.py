"""The adapter: low-rank matrices beside a frozen model (LoRA, arXiv 2106.09685), and its folder.

::

    adapter_config.json         as PEFT writes it, for other tools
    adapter_model.safetensors   the adapter's weights; the base's are never written
    classifier.json             settings, what it is bound to, threshold, how it did on held-out items

An adapter is bound to the weights and the chat template of its base, and refuses others.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, ValidationError

from tocsin.core.errors import MissingExtraError, ModelError, ProfileError
from tocsin.core.records import Record
from tocsin.core.stats.item_sums import Estimate
from tocsin.judges.classifier.prompt import PROMPT_HASH
from tocsin.judges.classifier.settings import ClassifierSettings
from tocsin.models.embedded.files import sha256_of

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import Tensor

    from tocsin.models.local import LocalModel

MANIFEST = "classifier.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_OURS = frozenset({MANIFEST, WEIGHTS, CONFIG})
_NAME = "default"


class Base(Record):
    """The model that an adapter belongs to."""

    id: str
    revision: str
    """Hash of its weights."""
    template: str
    """Hash of its chat template."""

    @classmethod
    def of(cls, model: LocalModel) -> Base:
        """What binds an adapter to this model."""
        return cls(id=model.id, revision=model.revision, template=model.template_hash)


class Figures(Record):
    """How well answers tell Yes items from No items. Intervals hold 95 %, from resampling whole topics."""

    n: int
    n_yes: int
    n_topics: int
    abstained: int
    """Items that the judge does not read; they are left out of the figures."""
    unanswered: int
    """Items of the figures to which the next word was neither answer; the judge abstains on these too."""
    loss: float | None = None
    """Mean soft-label loss in nats."""
    mass: float | None = None
    """Mean of p(Yes) + p(No)."""
    auroc: Estimate
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate


class TrainingFacts(Record):
    """What an adapter was trained on, and how that went."""

    data: str
    """SHA-256 of the file."""
    n_train: int
    n_yes: int
    n_topics: int
    sources: dict[str, int]
    """Training items by where their soft label comes from."""
    left_out: dict[str, int]
    """Items that were neither trained nor tested on, by reason."""
    cut: int
    """Training items whose response was cut to fit."""
    updates: int
    losses: tuple[float, ...]
    """Mean soft-label loss of each epoch, in nats, while it was trained."""
    seconds: float
    """Time of the updates."""


class Manifest(Record):
    """What `classifier.json` says."""

    version: Literal[1] = 1
    base: Base
    settings: ClassifierSettings
    prompt: str
    """Hash of the question's fixed text."""
    threshold: float = Field(ge=0, le=1)
    threshold_source: Literal["half", "training items"]
    weights: str = ""
    """SHA-256 of `adapter_model.safetensors`."""
    training: TrainingFacts
    before: Figures | None = None
    """On held-out items, of the base alone; none where nothing was held out."""
    after: Figures | None = None


def check_extra() -> None:
    """Refuse before any work is done what needs PEFT.

    Raises:
        MissingExtraError: If the extra `train` is not installed.
    """
    if find_spec("peft") is None:
        raise MissingExtraError(extra="train", purpose="a classifier of responses")


def attach(
    model: LocalModel, settings: ClassifierSettings, weights: Mapping[str, Tensor] | None = None
) -> PeftModel:
    """Put an adapter beside the model's layers. Its own weights are frozen, and not changed.

    Args:
        model: Computes with the adapter from now on.
        settings: Of the adapter.
        weights: As saved; random ones that change nothing yet when None.

    Raises:
        ModelError: If the model has none of the layers that were asked for.
        ProfileError: If weights are missing or of other shapes.
        MissingExtraError: If the extra `train` is not installed.
    """
    check_extra()
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number serves
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        task_type="CAUSAL_LM",
        bias="none",
    )
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for this by its old name.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            wrapped = get_peft_model(model.torch_model, config, adapter_name=_NAME)
    except ValueError as error:
        wanted = ", ".join(settings.targets)
        message = f"{model.id} has none of the layers {wanted}. Name those that should get an adapter."
        raise ModelError(message) from error
    if weights is not None:
        own = {name for name, _ in wrapped.named_parameters() if f".{_NAME}." in name}
        try:
            outcome = set_peft_model_state_dict(wrapped, dict(weights), adapter_name=_NAME)
        except RuntimeError as error:
            raise _damaged() from error
        if outcome.unexpected_keys or own & set(outcome.missing_keys):  # type: ignore[attr-defined]
            raise _damaged()
    wrapped.train(mode=False)
    return wrapped


@contextmanager
def adapted(model: LocalModel, settings: ClassifierSettings) -> Iterator[PeftModel]:
    """The model with a new adapter inside the block; as it was afterwards.

    Raises:
        ModelError: If the model has none of the layers that were asked for.
        MissingExtraError: If the extra `train` is not installed.
    """
    network = model.torch_model
    gradients = [(each, each.requires_grad) for each in network.parameters()]
    wrapped = attach(model, settings)
    try:
        yield wrapped
    finally:
        wrapped.base_model.unload()  # type: ignore[operator]  # torch types a module's parts as tensors
        network.train(mode=False)
        for parameter, wanted in gradients:
            parameter.requires_grad_(wanted)
            parameter.grad = None


def _damaged() -> ProfileError:
    message = "the adapter's weights do not fit its settings. Train it again: tocsin judges train."
    return ProfileError(message)


def check_folder(folder: Path) -> None:
    """Refuse a place that must not be written, before any work is done.

    Raises:
        ProfileError: If it is a file, or a folder with anything but a classifier.
    """
    if folder.exists() and not folder.is_dir():
        message = "expected a folder for the classifier, got a file. Choose another place: --out."
        raise ProfileError(message, path=folder)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and (MANIFEST not in names or names - _OURS):
        message = "expected a new or empty folder or an old classifier, got other files. Choose another."
        raise ProfileError(message, path=folder)


class AdapterState(NamedTuple):
    """An adapter outside of its model."""

    weights: dict[str, Tensor]
    config: LoraConfig


def adapter_state(wrapped: PeftModel) -> AdapterState:
    """A copy of the adapter inside a model."""
    from peft import LoraConfig, get_peft_model_state_dict

    found = get_peft_model_state_dict(wrapped, adapter_name=_NAME, save_embedding_layers=False)
    config = wrapped.peft_config[_NAME]
    assert isinstance(config, LoraConfig)
    config.inference_mode = True
    return AdapterState(
        {name: each.detach().cpu().clone().contiguous() for name, each in found.items()}, config
    )


def save(folder: Path, state: AdapterState, manifest: Manifest) -> Manifest:
    """Write the adapter beside its place first, so that a failure leaves what was there.

    Args:
        folder: New, empty, or an old classifier's, which is replaced.
        state: The adapter.
        manifest: What is known about it.

    Returns:
        The manifest with the hash of the weights, as it was written.

    Raises:
        ProfileError: If the folder cannot be written, or holds something else.
    """
    from safetensors.torch import save_file

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".classifier-"))
        try:
            save_file(state.weights, part / WEIGHTS, metadata={"format": "pt"})
            state.config.base_model_name_or_path = manifest.base.id  # a path would name this machine
            state.config.save_pretrained(str(part))
            done = manifest.model_copy(update={"weights": sha256_of(part / WEIGHTS)})
            (part / MANIFEST).write_text(done.model_dump_json(indent=1) + "\n", "utf-8")
            part.chmod(0o755)
            check_folder(folder)
            if folder.exists():
                shutil.rmtree(folder)
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        why = (error.strerror or "an error").lower()
        message = f"the classifier cannot be written ({why}). Choose another folder: --out."
        raise ProfileError(message, path=folder) from error
    return done


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an adapter's folder.

    Raises:
        ProfileError: If there is none, or it is damaged, or the question has been reworded since.
    """
    path = folder / MANIFEST
    try:
        found = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        message = (
            "expected the folder of a classifier, got no classifier.json. Make one: tocsin judges train."
        )
        raise ProfileError(message, path=folder) from error
    except (ValidationError, ValueError) as error:
        message = "expected a classifier's settings, got something else. Train it again: tocsin judges train."
        raise ProfileError(message, path=path) from error
    if found.prompt != PROMPT_HASH:
        message = "the classifier was trained on another wording of the question. Train it again."
        raise ProfileError(message, path=path)
    return found


def read_weights(folder: Path, manifest: Manifest, model: LocalModel) -> dict[str, Tensor]:
    """The adapter's weights, for this base and no other.

    Raises:
        ProfileError: If the base is another model, or the weights are not those of the manifest.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    base = Base.of(model)
    if (base.revision, base.template) != (manifest.base.revision, manifest.base.template):
        what = "weights" if base.revision != manifest.base.revision else "chat template"
        message = (
            f"the classifier was trained on {manifest.base.id}@{manifest.base.revision}; --model gives "
            f"{base.id}@{base.revision} with other {what}. Name its own base, or train one for this model."
        )
        raise ProfileError(message, path=folder)
    path = folder / WEIGHTS
    try:
        if sha256_of(path) != manifest.weights:
            message = "the adapter's weights are not those that were trained. Train it again."
            raise ProfileError(message, path=path)
        return load_file(path)
    except (OSError, SafetensorError) as error:
        message = "the adapter's weights cannot be read. Train it again: tocsin judges train."
        raise ProfileError(message, path=path) from error
