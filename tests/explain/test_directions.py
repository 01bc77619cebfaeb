"""Directions of harmfulness and refusal: planted ones are found, steering is exact, nothing stays behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interrupts import interrupting, state
from tocsin.api.explain_directions import _of_files, _of_testbed, explain_directions
from tocsin.api.explain_directions_golden import check_golden
from tocsin.core.errors import FitError, InputError, ModelError, UsageError
from tocsin.core.stages import Stages
from tocsin.explain.directions import DirectionSettings, study_directions
from tocsin.explain.directions.geometry import centre, cosine, scores
from tocsin.explain.directions.observed import Observer, Side
from tocsin.explain.directions.steered import SteeringTest
from tocsin.internals import steering as steering_module
from tocsin.internals.layout import PromptLayout
from tocsin.internals.steering import Steering, greedy_replies, next_token_logs
from tocsin.models.local.blocks import find_blocks
from tocsin.testbed import Testbed, examples, load_planted

SMALL = DirectionSettings(n_fit=40, n_test=24, n_steered=8, n_rows=2, max_new_tokens=4)


@pytest.fixture(scope="module")
def planted() -> Testbed:
    return load_planted(0)


def prompt_ids(testbed: Testbed, n: int) -> list[list[int]]:
    layout = PromptLayout(testbed.model)
    built = [layout.build(one.prompt) for one in examples("plain", n)]
    return [[*one.prefix, *one.ids] for one in built]


# --- scores ----------------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.floats(0.01, 100))
def test_scores_are_bounded_antisymmetric_and_blind_to_length(seed: int, factor: float) -> None:
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(5, 3, 6))
    a, b = generator.normal(size=(2, 3, 6))
    s = scores(states, a, b)
    assert (np.abs(s) <= 2).all()
    np.testing.assert_allclose(scores(states, b, a), -s)
    np.testing.assert_allclose(scores(factor * states, a, b), s, atol=1e-9)


def test_a_state_at_the_centre_scores_one_less_the_cosine_of_the_centres() -> None:
    # cos(a, a) = 1 and cos(a, b) = 3/5, so s = 2/5.
    a, b = np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])
    np.testing.assert_allclose(scores(a[None], a, b), [[0.4]])


def test_empty_clusters_other_models_and_broken_numbers_are_named() -> None:
    with pytest.raises(FitError, match="refused harmful prompt, got none"):
        centre(np.empty((0, 2, 3)), "refused harmful")
    with pytest.raises(FitError, match="not finite"):
        centre(np.full((2, 2, 3), np.nan), "harmful")
    with pytest.raises(FitError, match="expected centres of shape"):
        scores(np.ones((1, 2, 3)), np.ones((3, 3)), np.ones((3, 3)))
    assert cosine(np.zeros(2), np.ones(2)) is None


# --- steering --------------------------------------------------------------------------------------------


def test_a_vector_moves_the_input_of_its_block_by_exactly_itself_and_no_row_below(planted: Testbed) -> None:
    model = planted.model
    ids = prompt_ids(planted, 1)
    vector = np.random.default_rng(0).normal(size=model.width).astype(np.float32)
    blocks = find_blocks(model.torch_model)

    def inputs(change: Steering | None) -> dict[int, torch.Tensor]:
        """What each block is given."""
        taken: dict[int, torch.Tensor] = {}

        def read(row: int, args: tuple[torch.Tensor, ...]) -> None:
            taken[row] = args[0]

        # Hooks run in the order they were made, so these read what steering leaves.
        with torch.inference_mode(), steering_module._steered(model, ids, len(ids[0]), change):
            handles = [
                block.register_forward_pre_hook(lambda _module, args, row=row: read(row, args))
                for row, block in enumerate(blocks)
            ]
            model.torch_model.base_model(input_ids=torch.tensor(ids), use_cache=False)
            for handle in handles:
                handle.remove()
        return taken

    before, after = inputs(None), inputs(Steering(2, vector, 3.0, last=2))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    moved = 3.0 * torch.from_numpy(vector)
    assert torch.equal(after[2][0, :-2], before[2][0, :-2] + moved)
    assert torch.equal(after[2][0, -2:], before[2][0, -2:])


def test_a_coefficient_of_zero_changes_no_bit_and_batching_no_reply(planted: Testbed) -> None:
    ids = prompt_ids(planted, 6)
    vector = np.ones(planted.model.width, dtype=np.float32)
    plain = next_token_logs(planted.model, ids)
    assert np.array_equal(plain, next_token_logs(planted.model, ids, steering=Steering(1, vector, 0.0)))
    ends = planted.end_ids
    together = greedy_replies(planted.model, ids, end_ids=ends, max_new_tokens=3)
    alone = [greedy_replies(planted.model, [one], end_ids=ends, max_new_tokens=3)[0] for one in ids]
    assert together == alone


def test_hooks_are_gone_after_an_error(planted: Testbed) -> None:
    ids = prompt_ids(planted, 1)
    vector = np.ones(planted.model.width, dtype=np.float32)
    block = find_blocks(planted.model.torch_model)[1]
    with (
        pytest.raises(KeyboardInterrupt),
        steering_module._steered(planted.model, ids, len(ids[0]), Steering(1, vector)),
    ):
        raise KeyboardInterrupt
    assert len(block._forward_pre_hooks) == 0


def test_a_vector_of_another_width_is_refused(planted: Testbed) -> None:
    with pytest.raises(ModelError, match=r"expected a vector of shape \(64,\)"):
        next_token_logs(planted.model, prompt_ids(planted, 1), steering=Steering(1, np.ones(3, np.float32)))


# --- the study -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_directions_are_recovered(seed: int, tmp_path: Path) -> None:
    study = explain_directions(model=f"planted:{seed}", settings=SMALL, out=tmp_path / "run").study
    assert study.planted["harmfulness"] >= 0.99
    assert study.planted["refusal"] >= 0.99
    truth_row = study.layers[-1]
    assert truth_row.cosine is not None
    assert abs(truth_row.cosine) <= 0.1
    means = {bucket.name: bucket for bucket in study.buckets}
    wrapped, refused = means["wrapped harmful"], means["refused harmful"]
    assert (wrapped.harmfulness.value or 0) > 0  # recognised ...
    assert (wrapped.refusal.value or 0) < 0 < (refused.refusal.value or 0)  # ... yet not refused
    assert study.layers[0].auroc.value is not None
    steered = {(one.row, one.prompts, one.direction): one for one in study.steering}
    last = max(one.row for one in study.steering)
    assert steered[last, "harmless", "refusal"].refused.value == 1
    assert steered[last, "harmless", "random"].refused.value == 0


def test_the_same_command_shows_the_finished_study_and_a_new_one_is_equal(tmp_path: Path) -> None:
    first = explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "a")
    again = explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "a")
    other = explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "b")
    assert first.study == again.study == other.study
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Steering and reply inversion" in page
    assert "<svg" in page
    assert not (tmp_path / "a" / "stages").exists()


@pytest.mark.parametrize("where", ["while steering", "between parts"])
def test_an_interrupted_study_leaves_the_model_it_studies(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed = load_planted(0)
    model, data = testbed.model, _of_testbed(testbed, SMALL, [])
    before = state(model)

    def stop(what: str, done: int, _total: int) -> None:
        if where == "between parts" and (what, done) == ("steering", 3):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if where == "while steering":
            block = interrupting(
                steering_module._steered, model, at=3, when=lambda *args: args[3] is not None
            )
            patched.setattr(steering_module, "_steered", block)
        with pytest.raises(KeyboardInterrupt):
            study_directions(model, data, SMALL, stages=Stages(tmp_path), progress=stop)
    assert state(model) == before
    assert (tmp_path / "steer-harmless-none-0.npz").exists()
    again = study_directions(model, data, SMALL, stages=Stages(tmp_path))
    assert again == study_directions(model, data, SMALL)
    assert state(model) == before


def test_an_interrupted_command_goes_on(tmp_path: Path) -> None:
    whole = explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "whole").study

    def stop(what: object) -> None:
        if getattr(what, "what", "") == "steering" and getattr(what, "done", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "cut", progress=stop)
    kept = {path.name for path in (tmp_path / "cut" / "stages").iterdir()}
    assert "side-harmful.npz" in kept
    assert explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "cut").study == whole


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Prompts of each kind that a study reads, as it reads them."""
    found: dict[str, list[str]] = {}
    real = Observer.side

    def side(self: Observer, name: str, texts: Sequence[str]) -> Side:
        found[name] = list(texts)
        return real(self, name, texts)

    monkeypatch.setattr(Observer, "side", side)
    return found


@pytest.mark.parametrize(("given", "behind"), [(34, 17), (90, 40)])
def test_only_prompts_behind_no_centre_are_put_into_wrappers(
    planted: Testbed, given: int, behind: int, read: dict[str, list[str]]
) -> None:
    harmful, harmless = ([one.prompt for one in examples(kind, given)] for kind in ("marked", "plain"))
    data = _of_files(planted.model, harmful, harmless, ["tell me : REQUEST", "in a story , REQUEST"])
    study = study_directions(planted.model, data, SMALL)
    assert study.n_fit["harmful"] == behind
    held_out = harmful[behind : behind + SMALL.n_test]
    starts = ("tell me : ", "in a story , ")
    assert read["wrapped"] == [starts[i % 2] + prompt for i, prompt in enumerate(held_out)]
    assert not set(read["wrapped"]) & {start + prompt for prompt in harmful[:behind] for start in starts}


def test_a_testbed_takes_wrappers_and_no_files(tmp_path: Path, read: dict[str, list[str]]) -> None:
    for files, text in ((("x.csv", None), None), ((None, "x.csv"), None), ((None, None), "prompt")):
        with pytest.raises(UsageError, match="brings its own prompts"):
            explain_directions(*files, model="planted:0", text=text, out=tmp_path / "no")
    wrappers = tmp_path / "wrappers.txt"
    wrappers.write_text("someone asks : REQUEST\n")
    run = explain_directions(model="planted:0", settings=SMALL, wrappers=wrappers, out=tmp_path / "own").study
    held_out = read["harmful"][run.n_fit["harmful"] :]
    assert read["wrapped"] == [f"someone asks : {prompt}" for prompt in held_out]
    explain_directions(model="planted:0", settings=SMALL, out=tmp_path / "usual")
    assert all(text.startswith("in a story , ") for text in read["wrapped"])


def test_files_and_settings_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--harmful and --harmless"):
        explain_directions(model="embedded")
    with pytest.raises(UsageError, match="1 to 6 rows"):
        DirectionSettings(n_rows=7)
    wrappers = tmp_path / "wrappers.txt"
    wrappers.write_text("nothing to replace\n")
    with pytest.raises(InputError, match="REQUEST"):
        explain_directions(model="planted:0", settings=SMALL, wrappers=wrappers, out=tmp_path / "x")
    with pytest.raises(InputError, match=r"\.npz"):
        explain_directions(model="planted:0", settings=SMALL, golden=wrappers, out=tmp_path / "x")


def test_prompts_on_both_sides_are_refused_with_their_number(planted: Testbed, tmp_path: Path) -> None:
    marked, plain = ([one.prompt for one in examples(kind, 40)] for kind in ("marked", "plain"))
    message = "got 3 that stand on both sides"
    data = _of_files(planted.model, marked, [*plain, *marked[:3]], [])
    with pytest.raises(InputError, match=message):
        study_directions(planted.model, data, SMALL)
    paths = tmp_path / "harmful.csv", tmp_path / "harmless.csv"
    for path, texts in zip(paths, (marked, [*plain, *marked[:3]]), strict=True):
        path.write_text("\n".join(["prompt", *(f'"{text}"' for text in texts)]), "utf-8")
    # Refused before the model, which is not there.
    with pytest.raises(InputError, match=message):
        explain_directions(*paths, model=str(tmp_path / "no-model"), out=tmp_path / "run")


def test_a_direction_of_length_0_is_not_added(planted: Testbed) -> None:
    data = _of_files(planted.model, [], [], [])
    observer = Observer(
        planted.model, data, max_new_tokens=1, stages=Stages(None), progress=lambda _what, _done, _total: None
    )
    harm = np.ones((planted.model.n_blocks + 1, planted.model.width))
    harm[1] = 0
    test = SteeringTest(observer, DirectionSettings(n_rows=6), harm=harm, gate=harm)
    assert sorted({plan.row for plan in test._plans() if plan.sign}) == list(range(2, planted.model.n_blocks))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_coefficient_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="finite coefficient"):
        DirectionSettings(coefficient=value)


def golden_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {name: generator.normal(size=(5, 3, 4)) for name in ("inst", "post")}
    names = ("harmful", "harmless", "refused", "accepted")
    return found | {name: generator.normal(size=(3, 4)) for name in names}


def test_published_tensors_are_compared(tmp_path: Path) -> None:
    assert "no file" in check_golden(None)
    path = tmp_path / "golden.npz"
    np.savez(path, **golden_arrays())  # type: ignore[arg-type]
    assert "DIFFERENT" in check_golden(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inst": np.ones((4, 3, 4))}, r"inst in shape \(5, rows, width\).*got \(4, 3, 4\)"),
        ({"harmless": np.ones((3, 5))}, r"harmless in shape \(rows, width\).*got \(3, 5\)"),
        ({"harmful": np.ones(4)}, "shape"),
        ({"post": np.full((5, 3, 4), np.nan)}, "finite numbers in the array post"),
        ({"refused": np.full((3, 4), "a")}, "finite numbers in the array refused"),
        ({"accepted": np.full((3, 4), None)}, "damaged file or one of another kind"),
    ],
)
def test_published_tensors_of_another_form_are_refused_by_file_and_reason(
    change: dict[str, np.ndarray], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "golden.npz"
    np.savez(path, **(golden_arrays() | change))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"golden\.npz: .*{reason}"):
        check_golden(path)


def test_a_damaged_file_of_published_tensors_is_refused_by_file_and_reason(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez(whole, **golden_arrays())  # type: ignore[arg-type]
    data = whole.read_bytes()
    flipped = bytearray(data)
    flipped[200] ^= 0xFF
    damaged = {
        "cut": (data[: len(data) // 2], "damaged"),
        "flipped": (bytes(flipped), "damaged"),
        "empty": (b"", "damaged"),
    }
    for name, (content, reason) in damaged.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.npz: expected an \.npz file.*{reason}"):
            check_golden(path)
    single = tmp_path / "single.npy"
    np.save(single, np.ones(3))
    with pytest.raises(InputError, match="a single array"):
        check_golden(single)
    few = tmp_path / "few.npz"
    np.savez(few, inst=np.ones(3))
    with pytest.raises(InputError, match="none called post, harmful"):
        check_golden(few)
    with pytest.raises(InputError, match="got no file"):
        check_golden(tmp_path / "nowhere.npz")
