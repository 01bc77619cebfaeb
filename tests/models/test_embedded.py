"""The embedded model: numpy engine against transformers, tokenizer, files, generation."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tiny_models import tiny_llama
from tocsin.core.errors import ModelError
from tocsin.core.records import Turn
from tocsin.internals import PromptLayout
from tocsin.models.embedded import EmbeddedModel
from tocsin.models.embedded import files as embedded_files
from tocsin.models.embedded.llama import QUERIES_AT_ONCE, TOKENS_PER_BATCH, NumpyLlama
from tocsin.models.embedded.torch import load_embedded_torch
from tocsin.models.embedded.weights import LlamaShape, load_files
from tocsin.models.local import LocalModel

PROMPTS = [
    "How do I kill a Python process?",
    "a",
    "List the first ten prime numbers, with a reason for each.",
]
ROWS = [0, 1, 10, 16, 29, 30]
PREFIX_LENGTH = 24


def states_of(
    model: EmbeddedModel | NumpyLlama | LocalModel,
    sequences: list[list[int]],
    rows: list[int],
    prefix: list[int],
) -> dict[int, np.ndarray]:
    taken = {}
    for batch in model.hidden(sequences, rows, prefix=prefix):
        for place, index in enumerate(batch.indices):
            assert index not in taken
            taken[index] = batch.states[place][:, : batch.lengths[place]]
    assert sorted(taken) == list(range(len(sequences)))
    return taken


def prompt_ids(embedded: EmbeddedModel) -> list[list[int]]:
    return [embedded.encode(embedded.render([Turn(role="user", text=text)])).ids for text in PROMPTS]


@pytest.fixture(scope="module")
def plain_states(embedded: EmbeddedModel, reference_model: LocalModel) -> list[np.ndarray]:
    """transformers' own hidden states of each whole prompt, shape (rows, tokens, width)."""
    with torch.inference_mode():
        passes = [
            reference_model.torch_model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            for ids in prompt_ids(embedded)
        ]
    return [torch.stack([states[row][0] for row in ROWS]).numpy() for states in passes]


@pytest.mark.parametrize("reused", [0, PREFIX_LENGTH], ids=["whole", "prefix-reused"])
def test_activations_equal_the_plain_full_forward_pass(
    embedded: EmbeddedModel, plain_states: list[np.ndarray], reused: int
) -> None:
    sequences = prompt_ids(embedded)
    got = states_of(embedded, [ids[reused:] for ids in sequences], ROWS, sequences[0][:reused])
    for index, plain in enumerate(plain_states):
        for slot, row in enumerate(ROWS):
            expected = plain[slot, reused:]
            # transformers gives the last row after the final norm.
            states = embedded.final_norm(got[index][slot]) if row == embedded.n_blocks else got[index][slot]
            error = np.abs(states - expected)
            # The first token's row reaches 25,000 from block 11 on, so the error is taken relative to a row's
            # norm (measured: at most 4e-6) ...
            assert (error.max(axis=1) / np.linalg.norm(expected, axis=1)).max() < 1e-5
            # ... and absolutely at the tokens that are read (measured: at most 3e-4).
            assert error[PREFIX_LENGTH - reused :].max() < 1e-3


def test_torch_loader_equals_the_numpy_engine(embedded: EmbeddedModel, reference_model: LocalModel) -> None:
    sequences = prompt_ids(embedded)
    prefix = sequences[0][:PREFIX_LENGTH]
    own = [ids[PREFIX_LENGTH:] for ids in sequences]
    left, right = states_of(embedded, own, [16], prefix), states_of(reference_model, own, [16], prefix)
    for index in left:
        assert np.abs(left[index] - right[index]).max() < 1e-3
    assert reference_model.template_hash == embedded.template_hash
    assert reference_model.render([Turn(role="user", text="x")]) == embedded.render(
        [Turn(role="user", text="x")]
    )


def test_batches_any_order_and_duplicates_give_the_same_values(embedded: EmbeddedModel) -> None:
    sequences = [ids[PREFIX_LENGTH:] for ids in prompt_ids(embedded)]
    sequences.append(sequences[1])
    prefix = prompt_ids(embedded)[0][:PREFIX_LENGTH]
    together = states_of(embedded, sequences, [4, 10], prefix)
    backwards = states_of(embedded, sequences[::-1], [4, 10], prefix)
    for index, sequence in enumerate(sequences):
        alone = states_of(embedded, [sequence], [4, 10], prefix)[0]
        assert np.abs(together[index] - alone).max() < 1e-4
        assert np.abs(together[index] - backwards[len(sequences) - 1 - index]).max() < 1e-4
    assert np.abs(together[1] - together[3]).max() < 1e-4


@cache
def tiny_numpy() -> tuple[NumpyLlama, torch.nn.Module]:
    model = tiny_llama()
    shape = LlamaShape(
        n_blocks=4, width=32, n_heads=4, n_kv_heads=2, hidden=48, vocabulary=800, context=1024,
        rope_base=10000.0, norm_eps=1e-6,
    )  # fmt: skip
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return NumpyLlama(shape, weights, threads=2), model


@pytest.mark.parametrize("before", [0, 7])
def test_sequences_longer_than_a_batch_and_a_query_chunk_are_right(before: int) -> None:
    engine, model = tiny_numpy()
    length = max(TOKENS_PER_BATCH, QUERIES_AT_ONCE) + 100
    ids = np.random.default_rng(0).integers(0, 800, before + length).tolist()
    got = states_of(engine, [ids[before:], ids[before : before + 3]], [4, 2], ids[:before])
    with torch.inference_mode():
        plain = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    scale = float(plain[2].abs().max())
    # Rows come in the order asked for. The last one is normed in transformers, so row 2 is compared.
    assert np.abs(got[0][1] - plain[2][0, before:].numpy()).max() < 1e-5 * scale
    assert np.abs(got[1][1] - plain[2][0, before : before + 3].numpy()).max() < 1e-5 * scale


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    prefix=st.lists(st.integers(0, 799), max_size=5),
    seed=st.integers(0, 1000),
)
def test_batching_and_prefix_never_change_a_value(lengths: list[int], prefix: list[int], seed: int) -> None:
    engine, _ = tiny_numpy()
    draw = np.random.default_rng(seed)
    sequences = [draw.integers(0, 800, length).tolist() for length in lengths]
    together = states_of(engine, sequences, [0, 3], prefix)
    for index, sequence in enumerate(sequences):
        whole = states_of(engine, [[*prefix, *sequence]], [0, 3], [])[0][:, len(prefix) :]
        np.testing.assert_allclose(together[index], whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("sequences", "rows", "match"),
    [([[1]], [31], "rows"), ([[1]], [], "rows"), ([[]], [1], "no tokens"), ([[1] * 9000], [1], "8192")],
)
def test_impossible_requests_are_refused(
    embedded: EmbeddedModel, sequences: list[list[int]], rows: list[int], match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        list(embedded.hidden(sequences, rows))


@pytest.fixture(scope="module")
def hf_tokenizer(embedded_folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder, local_files_only=True)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


# The published vocabulary lacks tokens for six control characters and for the bytes that only unassigned
# planes use; its tokenizer drops them.
DROPPED = "\x04\x06\x13\x14\x16\x1d"
READABLE = st.characters(max_codepoint=0x3FFFF, exclude_characters=DROPPED, exclude_categories=["Cs"])


@given(text=st.text(READABLE, max_size=80))
def test_any_text_decodes_back(
    embedded: EmbeddedModel, hf_tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    encoded = embedded.encode_untrusted(text)
    assert hf_tokenizer.decode(encoded.ids, clean_up_tokenization_spaces=False) == text
    assert embedded.encode(text).ids == hf_tokenizer(text)["input_ids"]
    assert all(0 <= start <= end <= len(text) for start, end in encoded.offsets)


def test_text_of_characters_outside_the_vocabulary_is_refused(embedded: EmbeddedModel) -> None:
    assert embedded.encode_untrusted(DROPPED).ids == []
    with pytest.raises(ModelError, match="drops every character"):
        PromptLayout(embedded).build("\x04\x06")


def test_special_tokens_written_in_untrusted_text_stay_ordinary_text(
    embedded: EmbeddedModel, hf_tokenizer: PreTrainedTokenizerFast
) -> None:
    special = set(hf_tokenizer.all_special_ids) | set(hf_tokenizer.get_added_vocab().values())
    for token in hf_tokenizer.get_added_vocab():
        text = f"before {token} after"
        assert special & set(embedded.encode(text).ids)
        ids = embedded.encode_untrusted(text).ids
        assert not special & set(ids)
        assert hf_tokenizer.decode(ids) == text


def test_lone_surrogates_count_as_replacement_characters(embedded: EmbeddedModel) -> None:
    assert embedded.encode_untrusted("a\ud800b") == embedded.encode_untrusted("a\ufffdb")


def test_template_equals_transformers(embedded: EmbeddedModel, hf_tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]
    for chosen in (turns, turns[1:]):
        ours = embedded.render([Turn(role=role, text=text) for role, text in chosen])
        messages = [{"role": role, "content": text} for role, text in chosen]
        assert ours == hf_tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


@pytest.mark.slow
def test_embedded_weights_generate_an_answer(embedded: EmbeddedModel) -> None:
    model, tokenizer = load_embedded_torch(offline=True)
    prompt = embedded.render([Turn(role="user", text="What is the capital of France?")])
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    generate: Any = model.generate  # type: ignore[misc]
    out = generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, ids.shape[1] :])


def test_weights_changed_in_memory_stay_there(embedded: EmbeddedModel) -> None:
    changed, _ = load_embedded_torch(offline=True)
    with torch.no_grad():
        changed.model.norm.weight.add_(1)
    again, _ = load_embedded_torch(offline=True)
    assert torch.equal(changed.model.norm.weight, again.model.norm.weight + 1)


def test_missing_model_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path))
    monkeypatch.delenv("TOCSIN_GGUF", raising=False)
    with pytest.raises(ModelError, match="--offline forbids fetching"):
        load_files(offline=True)
    monkeypatch.setenv("TOCSIN_GGUF", str(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match="does not exist"):
        load_files(offline=True)


def test_damaged_file_in_the_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path))
    monkeypatch.delenv("TOCSIN_GGUF", raising=False)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / embedded_files.GGUF_NAME).write_bytes(b"cut short")
    with pytest.raises(ModelError, match="changed or damaged"):
        load_files(offline=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ModelError, match="TOCSIN_HOME"):
        embedded_files.make_folder(tmp_path / "models")
