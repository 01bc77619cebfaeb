"""What `--model` may say."""

from pathlib import Path

import pytest

from tocsin.core.errors import ModelError, UsageError
from tocsin.core.registry import DetectorContext
from tocsin.models.base import ActivationModel
from tocsin.models.spec import PROVIDERS, ModelSpec, load_activation_model, parse_model


def test_each_kind_is_recognised(tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.touch()
    gguf = tmp_path / "own.gguf"
    gguf.touch()
    assert parse_model("embedded") == ModelSpec("embedded", "")
    assert parse_model(str(tmp_path)) == ModelSpec("local", str(tmp_path))
    assert parse_model(str(gguf)) == ModelSpec("local", str(gguf))
    assert parse_model(str(gguf)).is_gguf
    assert parse_model("hub:org/name") == ModelSpec("hub", "org/name")
    assert parse_model(f"scripted:{replies}") == ModelSpec("scripted", str(replies))
    assert parse_model("openai/gpt-4o") == ModelSpec("provider", "openai/gpt-4o")
    assert parse_model("hf/org/name") == ModelSpec("provider", "hf/org/name")


def test_a_path_wins_over_a_provider_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openai" / "gpt").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_model("openai/gpt").kind == "local"
    assert parse_model("openai/other").kind == "provider"


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("embeded", "Did you mean embedded"),
        ("opnai/gpt-4o", "Did you mean openai"),
        ("HuggingFaceTB/SmolLM2-135M", "hub:HuggingFaceTB/SmolLM2-135M"),
        ("./no/such/folder", "no model at the path"),
        ("missing.gguf", "no model at the path"),
        ("hub:name", "hub:org/name"),
        ("hub:a/b/c", "hub:org/name"),
        ("hub:../x", "hub:org/name"),
        ("scripted:missing.jsonl", "names no file"),
        ("openai/", "names no model"),
        ("", "Expected 'embedded'"),
    ],
)
def test_anything_else_is_an_error_that_says_what_to_write(spec: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_model(spec)
    assert hint in str(caught.value)


def test_a_plain_file_is_not_a_model(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.touch()
    with pytest.raises(UsageError, match="neither a folder nor a GGUF file"):
        parse_model(str(file))


def test_listed_providers_are_those_of_the_installed_inspect_ai() -> None:
    source = pytest.importorskip("inspect_ai.model._providers.providers").__file__
    text = Path(source).read_text("utf-8")
    named = {line.split('"')[1] for line in text.splitlines() if line.startswith('@modelapi(name="')}
    assert named == set(PROVIDERS)


def test_model_is_loaded_once_for_a_run(embedded: ActivationModel) -> None:
    context = DetectorContext(offline=True)
    model = load_activation_model("embedded", context)
    assert model is load_activation_model("embedded", context)
    assert model.revision == embedded.revision
    assert isinstance(model, ActivationModel)


def test_model_without_activations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="activations"):
        load_activation_model("openai/gpt-4o", DetectorContext())


def test_embedded_engine_refuses_another_device_than_the_cpu() -> None:
    with pytest.raises(UsageError, match="CPU only"):
        load_activation_model("embedded", DetectorContext(device="cuda"))


def test_gguf_that_is_no_model_is_named(tmp_path: Path) -> None:
    gguf = tmp_path / "own.gguf"
    gguf.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"own\.gguf is not a readable GGUF file"):
        load_activation_model(str(gguf), DetectorContext())
