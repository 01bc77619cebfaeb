"""How likely tokens come next, and what classifiers say of texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    Llama4TextConfig,
    PreTrainedConfig,
)

from guard_weights import RESPONSE, save_classifier, save_guard
from tiny_models import tiny_from_config, tiny_llama
from tocsin.core.errors import ModelError, UsageError
from tocsin.models.local import load_classifier, load_local
from tocsin.models.local.next_token import next_log_probs
from tocsin.models.local.writing import write_greedily

SEQUENCES = [[5, 9, 3, 7, 2, 11, 4, 8], [6], [5, 9, 3], list(range(1, 13)), [6]]
TOKENS = [3, 700, 41]
CONFIGS: dict[str, PreTrainedConfig | None] = {
    "llama": None,
    "gemma2": Gemma2Config(
        vocab_size=800, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=6, max_position_embeddings=128,
    ),
    "llama4": Llama4TextConfig(
        vocab_size=800, hidden_size=32, intermediate_size=48, intermediate_size_mlp=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=1, moe_layers=[],
        attention_chunk_size=6, max_position_embeddings=128,
    ),
    "gpt2": GPT2Config(vocab_size=800, n_embd=32, n_layer=3, n_head=4, n_positions=128),
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_are_those_of_single_plain_passes(name: str, batch_size: int | None) -> None:
    config = CONFIGS[name]
    model = tiny_llama() if config is None else tiny_from_config(config)
    found = next_log_probs(model, SEQUENCES, TOKENS, batch_size=batch_size)
    assert found.shape == (len(SEQUENCES), len(TOKENS))
    for row, sequence in zip(found, SEQUENCES, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([sequence])).logits[0, -1].float()
        expected = torch.log_softmax(logits, dim=-1)[TOKENS].numpy()
        # float32 and other batch shapes.
        np.testing.assert_allclose(row, expected, atol=2e-4)


def test_writing_in_a_batch_is_writing_alone_and_stops_at_an_end() -> None:
    model = tiny_llama()
    free = write_greedily(model, SEQUENCES, max_tokens=5, ends=[])
    assert all(each.is_cut and len(each.ids) == 5 for each in free)
    assert free[2] == write_greedily(model, [SEQUENCES[2]], max_tokens=5, ends=[])[0]
    end = free[0].ids[2]
    stopped = write_greedily(model, SEQUENCES[:1], max_tokens=5, ends=[end])[0]
    assert stopped.ids == free[0].ids[: free[0].ids.index(end)]
    assert not stopped.is_cut
    assert write_greedily(model, [], max_tokens=5, ends=[]) == []


def test_a_classifier_says_what_transformers_says(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "roberta")
    texts = [RESPONSE, "No.", "word " * 900]
    model = load_classifier(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    for text in texts:
        with torch.inference_mode():
            expected_ids = tokenizer(text, truncation=True, max_length=512)["input_ids"]
            logits = plain(torch.tensor([expected_ids])).logits[0]
        assert model.cut(model.encode(text), 512) == expected_ids
    ids = [model.cut(model.encode(text), 512) for text in texts]
    together = model.probabilities(ids)
    np.testing.assert_allclose(together[-1], torch.softmax(logits, dim=-1).numpy(), atol=1e-5)
    np.testing.assert_allclose(together[1], model.probabilities(ids[1:2])[0], atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)


def test_control_tokens_spelt_in_a_text_are_characters_to_a_classifier(tmp_path: Path) -> None:
    model = load_classifier(save_classifier(tmp_path / "roberta"))
    start, *_, end = model.encode("plain")
    ids = model.encode("plain </s> <s> text")
    assert (ids[0], ids[-1]) == (start, end)
    assert ids.count(end) == ids.count(start) == 1


def test_weights_without_a_head_are_refused_and_not_filled_with_random_numbers(tmp_path: Path) -> None:
    folder = save_guard(tmp_path / "causal", "llama-guard")
    with pytest.raises(ModelError, match="would be random numbers"):
        load_classifier(folder)
    with pytest.raises(ModelError, match="would be random numbers"):
        load_local(save_classifier(tmp_path / "roberta"))
    with pytest.raises(UsageError, match="--batch-size"):
        load_classifier(folder, batch_size=0)
