"""Any Hugging Face causal model behind the activation interface."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    Llama4TextConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from tiny_models import fast_tokenizer, tiny_from_config, tiny_llama, tiny_local
from tocsin.core.errors import ModelError, UsageError
from tocsin.core.records import Turn
from tocsin.internals import PromptLayout
from tocsin.models.base import ActivationModel
from tocsin.models.local import load_local
from tocsin.models.local.blocks import residual_rows

_SMALL: dict[str, Any] = {
    "vocab_size": 800,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
_LLAMA_LIKE: dict[str, Any] = {
    **_SMALL,
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "qwen2": Qwen2Config(**_LLAMA_LIKE),
    "qwen3": Qwen3Config(**_LLAMA_LIKE, head_dim=8),
    "mistral-sliding": MistralConfig(**_LLAMA_LIKE, sliding_window=6),
    "gemma2-sliding": Gemma2Config(**_LLAMA_LIKE, head_dim=8, sliding_window=6),
    "phi3": Phi3Config(**_LLAMA_LIKE, pad_token_id=0),
    "llama4-chunked": Llama4TextConfig(
        **_LLAMA_LIKE,
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=1,
        moe_layers=[],
        attention_chunk_size=6,
    ),
    "gpt2": GPT2Config(vocab_size=800, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "gpt-neox": GPTNeoXConfig(**_SMALL, intermediate_size=48, max_position_embeddings=128),
}

SEQUENCES = [[5, 9, 3, 7, 2, 11, 4, 8], [6], [5, 9, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [6]]
PREFIX = [21, 22, 23, 24, 25]


def collect(
    model: ActivationModel,
    sequences: Sequence[Sequence[int]],
    rows: Sequence[int],
    prefix: Sequence[int] = (),
) -> dict[int, np.ndarray]:
    """States of each sequence, shape (rows, tokens, width)."""
    taken = {}
    for batch in model.hidden(sequences, rows, prefix=prefix):
        for place, index in enumerate(batch.indices):
            assert index not in taken
            taken[index] = batch.states[place][:, : batch.lengths[place]]
    assert sorted(taken) == list(range(len(sequences)))
    return taken


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("prefix", [[], PREFIX], ids=["no-prefix", "prefix"])
@pytest.mark.parametrize("name", CONFIGS)
def test_rows_equal_the_plain_forward_pass(name: str, prefix: list[int], padding: str) -> None:
    torch_model = tiny_from_config(CONFIGS[name])
    model = tiny_local(model=torch_model, padding="left" if padding == "left" else "right")
    rows = [0, 1, 2]
    got = collect(model, SEQUENCES, rows, prefix)
    for index, sequence in enumerate(SEQUENCES):
        with torch.inference_mode():
            states = torch_model(
                torch.tensor([[*prefix, *sequence]]), output_hidden_states=True
            ).hidden_states
        for slot, row in enumerate(rows):
            expected = states[row][0, len(prefix) :].numpy()
            # float32, other batch shapes: 1e-5 of the largest value of the row.
            tolerance = 1e-5 * max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(got[index][slot], expected, atol=tolerance, rtol=1e-4)


def test_last_row_is_the_last_blocks_output_before_the_final_norm() -> None:
    torch_model = tiny_llama()
    model = tiny_local(model=torch_model)
    got = collect(model, SEQUENCES[:1], [model.n_blocks])[0]
    with torch.inference_mode():
        normed = (
            torch_model(torch.tensor(SEQUENCES[:1]), output_hidden_states=True).hidden_states[-1][0].numpy()
        )
    np.testing.assert_allclose(model.final_norm(got)[0], normed, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batch_size_changes_nothing_but_the_batches(batch_size: int) -> None:
    model = tiny_local(batch_size=batch_size)
    sizes = [len(batch.indices) for batch in model.hidden(SEQUENCES, [1])]
    assert max(sizes) <= batch_size
    single = tiny_local(batch_size=1)
    together, alone = collect(model, SEQUENCES, [3], PREFIX), collect(single, SEQUENCES, [3], PREFIX)
    for index in together:
        np.testing.assert_allclose(together[index], alone[index], atol=2e-5)


def test_blocks_that_return_tuples_are_read_like_those_that_return_tensors() -> None:
    class Block(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, None]:
            return hidden_states + 1, None

    blocks = [Block(), Block()]
    start = torch.zeros(1, 2, 3)
    with residual_rows(blocks, [0, 1, 2]) as taken:
        first, _ = blocks[0](hidden_states=start)
        blocks[1](first)
    assert [float(taken[row].mean()) for row in (0, 1, 2)] == [0.0, 1.0, 2.0]


def test_hooks_are_removed_after_an_error() -> None:
    block = torch.nn.Identity()

    def fail() -> None:
        with residual_rows([block], [0, 1]):
            message = "inside"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not block._forward_hooks
    assert not block._forward_pre_hooks


@pytest.mark.parametrize(
    ("sequences", "rows", "match"),
    [
        ([[1]], [5], "rows"),
        ([[1]], [-1], "rows"),
        ([[1]], [], "rows"),
        ([[]], [1], "no tokens"),
        ([[1] * 2000], [1], "1024"),
    ],
)
def test_impossible_requests_are_refused(sequences: list[list[int]], rows: list[int], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        list(tiny_local().hidden(sequences, rows))


def test_architecture_without_attention_is_refused_by_name() -> None:
    mamba = MambaConfig(vocab_size=800, hidden_size=32, num_hidden_layers=2, state_size=4)
    with pytest.raises(ModelError, match="architecture MambaForCausalLM is not supported"):
        tiny_local(model=tiny_from_config(mamba))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny-model"
    tiny_llama().save_pretrained(folder)
    fast_tokenizer("llama-3").save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def copy_of(folder: Path, target: Path, *, without: str = "nothing") -> Path:
    target.mkdir()
    for file in folder.iterdir():
        if not file.match(without):
            (target / file.name).write_bytes(file.read_bytes())
    return target


def test_folder_gives_the_same_activations_as_the_model_that_was_saved(checkpoint: Path, home: Path) -> None:
    model = load_local(checkpoint, device="cpu", offline=True)
    assert model.id == "tiny-model"
    assert (model.n_blocks, model.width, model.context) == (4, 32, 1024)
    in_memory = tiny_local("llama-3")
    text = PromptLayout(model).build("Why?")
    assert text == PromptLayout(in_memory).build("Why?")
    np.testing.assert_array_equal(collect(model, [text.ids], [3])[0], collect(in_memory, [text.ids], [3])[0])


def test_revision_changes_with_one_weight_and_not_with_the_folder(
    checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    first = load_local(checkpoint, device="cpu").revision
    twin = copy_of(checkpoint, tmp_path / "twin")
    assert load_local(twin, device="cpu").revision == first
    weights = bytearray((twin / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (twin / "model.safetensors").write_bytes(weights)
    assert load_local(twin, device="cpu").revision != first


def test_base_model_works_with_the_raw_template_only(checkpoint: Path, home: Path, tmp_path: Path) -> None:
    model = load_local(copy_of(checkpoint, tmp_path / "base", without="*.jinja"), device="cpu")
    assert PromptLayout(model, "raw").build("Why?").ids
    with pytest.raises(ModelError, match="has no chat template"):
        PromptLayout(model)
    with pytest.raises(ModelError, match="has no chat template"):
        model.render([Turn(role="user", text="x")])


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ("config.json", r"no config\.json"),
        ("*.safetensors", r"no \.safetensors weights"),
        ("tokenizer*", "no tokenizer"),
    ],
)
def test_missing_parts_are_named(
    checkpoint: Path, home: Path, tmp_path: Path, missing: str, match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        load_local(copy_of(checkpoint, tmp_path / "part", without=missing), device="cpu")


def test_pickled_weights_are_refused_by_name(checkpoint: Path, home: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path / "bin", without="*.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ModelError, match=r"it holds \.bin files.*save_pretrained"):
        load_local(folder, device="cpu")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised with gptq"),
        ({"model_type": "no-such-architecture"}, "cannot be loaded"),
        ({"model_type": None}, "names no model_type"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}, "code of their own are not run"),
    ],
)
def test_configurations_we_do_not_run_are_refused(
    checkpoint: Path, home: Path, tmp_path: Path, change: dict[str, object], match: str
) -> None:
    folder = copy_of(checkpoint, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=match):
        load_local(folder, device="cpu")


def test_damaged_files_are_an_error_without_traceback(checkpoint: Path, home: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_local(folder, device="cpu")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_local(folder, device="cpu")


def test_device_that_is_not_there_is_an_error_and_not_the_cpu(checkpoint: Path, home: Path) -> None:
    for device in ("cuda:77", "no-such-device"):
        with pytest.raises(UsageError, match=device):
            load_local(checkpoint, device=device)


def test_batch_size_must_be_positive(checkpoint: Path, home: Path) -> None:
    with pytest.raises(UsageError, match="--batch-size"):
        load_local(checkpoint, batch_size=0)


def test_offline_hub_model_that_was_never_fetched_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="--offline forbids"):
        load_local("no-such-org/no-such-model", is_hub=True, offline=True)
