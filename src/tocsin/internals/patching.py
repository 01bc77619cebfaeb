"""Activation patching: run a prompt with parts of the model held at the values of another run.

Of each prompt only the places from the first patched one on are computed again; keys and values of what lies
before them are kept from its first run. All patches of one prompt run side by side as one batch, in which
every row has its own part replaced. Weights are never touched, and hooks are gone when a call ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.internals.anatomy import Anatomy, Site, SiteKind
from tocsin.internals.outcomes import Outcome

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tocsin.models.local import LocalModel

Point = tuple[SiteKind, int]
"""Kind of site and block: one hook point."""
MAX_ROWS = 32


class Patch(NamedTuple):
    """What one row of a batch has replaced."""

    sites: tuple[Site, ...]
    places: tuple[int, ...]
    """Positions counted from the end of the prompt: -1 is its last token."""


class _Job(NamedTuple):
    """What one hook replaces in one row."""

    row: int
    where: list[int]
    columns: slice | list[int]
    value: Tensor


class Clean(NamedTuple):
    """A run of one prompt without patches."""

    tail: Tensor
    """Token ids of the places that patched runs compute again, shape (tail,)."""
    past: list[tuple[Tensor, Tensor]]
    """Keys and values of the places before them, for each block."""
    values: Mapping[Point, Tensor]
    """Activations on the tail, shape (tail, width of the tensor)."""
    outcome: float
    """Y without patches."""
    noise: Tensor | None
    """What was added to the embeddings of the tail, shape (tail, width); None for none."""
    request: str = ""
    """The prompt's text, for outcomes that judge a reply."""


class Patcher:
    """Runs prompts of one model with and without patches.

    Args:
        model: The model; padding is never needed, since one prompt is run at a time.
        outcome: What is measured at the end.
        kinds: Kinds of sites whose activations are kept from clean runs.
        prefix: Tokens that many prompts start with; their keys and values are computed once.
        max_rows: Patches run side by side.
    """

    def __init__(
        self,
        model: LocalModel,
        outcome: Outcome,
        kinds: Sequence[SiteKind],
        *,
        prefix: Sequence[int] = (),
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.model = model
        self.anatomy = Anatomy(model.torch_model)
        self.outcome = outcome
        self._kinds = tuple(kinds)
        self._max_rows = max_rows
        self._prefix = list(prefix)
        self._prefix_past: list[tuple[Tensor, Tensor]] | None = None
        self._is_changed = False

    def clean(
        self, ids: Sequence[int], tail: int, *, noise: Tensor | None = None, request: str = ""
    ) -> Clean:
        """Run a prompt and keep what patched runs need.

        Args:
            ids: The whole prompt.
            tail: Number of places at its end that patched runs may change; 1 to all.
            noise: Added to the embeddings of the tail, shape (tail, width).
            request: The prompt's text, where the outcome judges a reply.

        Raises:
            ModelError: If the tail is longer than the prompt.
        """
        import torch

        if not 1 <= tail <= len(ids):
            message = f"expected a tail of 1 to {len(ids)} tokens, got {tail}."
            raise ModelError(message)
        device = self.model.torch_model.device
        head, rest = ids[: len(ids) - tail], torch.tensor(ids[len(ids) - tail :], device=device)
        with torch.no_grad():
            past = self._past(head)
        run = Clean(rest, past, {}, 0.0, noise, request)
        values: dict[Point, Tensor] = {}
        with torch.no_grad(), self._reading(values, tail):
            outcome = self._outcomes(run, 1)
        return run._replace(values=values, outcome=float(outcome[0]))

    def patched(
        self,
        base: Clean,
        source: Clean,
        patches: Sequence[Patch],
        *,
        control: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Y of the base prompt with each patch in turn, shape (patches,).

        Args:
            base: The run that is changed.
            source: The run that values are taken from; of the same tail.
            patches: What is replaced.
            control: Replace by values as far from the base's as the source's, in a random direction.
        """
        import torch

        found = [np.empty(0)]
        with torch.no_grad():
            for start in range(0, len(patches), self._max_rows):
                rows = patches[start : start + self._max_rows]
                with self._writing(base, source, rows, control):
                    found.append(self._outcomes(base, len(rows)).double().cpu().numpy())
        return np.concatenate(found)

    def attributions(
        self, base: Clean, source: Clean, kinds: Sequence[SiteKind], places: Sequence[int]
    ) -> dict[Point, np.ndarray]:
        """First-order estimates of all patches from one backward pass: (source - base) * dY / d(base).

        Args:
            base: The run that would be changed.
            source: The run that values would be taken from.
            kinds: Kinds of sites.
            places: Positions from the end, summed over.

        Returns:
            For each hook point one number for each entry of its tensor, shape (width of the tensor,). Sums
            over the entries of a site estimate its effect (attribution patching).
        """
        import torch

        read: list[tuple[Point, Tensor]] = []

        def keep(point: Point) -> Callable[[Tensor], None]:
            return lambda tensor: read.append((point, tensor))

        with torch.enable_grad(), self._hooks({point: keep(point) for point in self._points(kinds)}):
            outcome = self._outcomes(base, 1, needs_gradient=True)
            gradients = torch.autograd.grad(outcome.sum(), [tensor for _, tensor in read])
        where = [len(base.tail) + place for place in places]
        found: dict[Point, np.ndarray] = {}
        # An outcome may run the model more than once, and each pass has its share.
        for (point, _), gradient in zip(read, gradients, strict=True):
            moved = source.values[point][where] - base.values[point][where]
            part = (moved * gradient[0, where]).sum(dim=0).double().cpu().numpy()
            found[point] = found[point] + part if point in found else part
        return found

    def _points(self, kinds: Sequence[SiteKind]) -> list[Point]:
        return [
            (kind, block)
            for kind in kinds
            for block in range(1 if kind == "embedding" else self.anatomy.n_blocks)
        ]

    @contextmanager
    def held(self, site: Site, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Change a site at every place of every run inside the block, as a defence would; then undo it.

        Args:
            site: What is changed.
            change: Given its values, shape (rows, places, entries); returns others of the same shape.
        """
        columns = self.anatomy.columns(site)

        def write(tensor: Tensor) -> Tensor:
            tensor = tensor.clone()
            tensor[..., columns] = change(tensor[..., columns])
            return tensor

        self._is_changed = True
        try:
            with self._hooks({(site.kind, site.block): write}):
                yield
        finally:
            self._is_changed = False

    def token_losses(self, ids: Sequence[int]) -> np.ndarray:
        """Negative log-likelihood of every token but the first, in nats; shape (tokens - 1,)."""
        import torch
        from torch.nn.functional import cross_entropy

        given = torch.tensor([list(ids)], device=self.model.torch_model.device)
        with torch.no_grad():
            logits = self.model.torch_model(input_ids=given, use_cache=False).logits[0, :-1].float()
            losses: np.ndarray = cross_entropy(logits, given[0, 1:], reduction="none").double().cpu().numpy()
        return losses

    def _past(self, head: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the places before the tail."""
        size = len(self._prefix)
        # Under a change that holds everywhere the prefix has other keys and values.
        if self._is_changed or not size or len(head) <= size or list(head[:size]) != self._prefix:
            return self._keys(head, [])
        if self._prefix_past is None:
            self._prefix_past = self._keys(self._prefix, [])
        return self._keys(head[size:], self._prefix_past)

    def _keys(
        self, ids: Sequence[int], before: Sequence[tuple[Tensor, Tensor]]
    ) -> list[tuple[Tensor, Tensor]]:
        import torch
        from transformers import DynamicCache

        if not ids:
            return []
        cache = DynamicCache(list(before))
        given = torch.tensor([list(ids)], device=self.model.torch_model.device)
        self.model.torch_model.base_model(input_ids=given, past_key_values=cache, use_cache=True)
        return [(key, value) for key, value, *_ in cache]

    def _outcomes(self, run: Clean, rows: int, *, needs_gradient: bool = False) -> Tensor:
        """Y of `rows` copies of a prompt, whatever the hooks in place do; shape (rows,)."""
        import torch
        from transformers import DynamicCache

        before = run.past[0][0].shape[2] if run.past else 0

        def forward(more: Sequence[Sequence[int]]) -> Tensor:
            """Log-probabilities at the prompt's last place and at those of `more` but the last."""
            length = len(more[0]) if more else 0
            ids = run.tail.expand(rows, -1)
            if length > 1:
                added = torch.tensor([list(row[:-1]) for row in more], device=ids.device)
                ids = torch.cat([ids, added.expand(rows, -1)], dim=1)
            cache = DynamicCache(
                [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in run.past]
            )
            positions = torch.arange(before, before + ids.shape[1], device=ids.device)[None]
            with self._embedding(run, needs_gradient=needs_gradient):
                output = self.model.torch_model(
                    input_ids=ids,
                    position_ids=positions.expand(rows, -1),
                    past_key_values=cache if run.past else None,
                    use_cache=bool(run.past),
                    logits_to_keep=max(1, length),
                )
            logits: Tensor = output.logits
            wide = logits if logits.dtype == torch.float64 else logits.float()
            return wide.log_softmax(dim=-1)

        return self.outcome.measure(forward, run.request)

    @contextmanager
    def _embedding(self, run: Clean, *, needs_gradient: bool) -> Iterator[None]:
        """Add a run's noise to the embeddings, and make them part of the graph where gradients are wanted."""
        if run.noise is None and not needs_gradient:
            yield
            return

        def change(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
            if run.noise is not None:
                output = output.clone()
                output[:, : len(run.noise)] += run.noise
            return output.detach().requires_grad_() if needs_gradient else output

        # Before any patch, so that a patched embedding is the one that the first block reads.
        handle = self.anatomy.embedding.register_forward_hook(change, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _reading(self, values: dict[Point, Tensor], tail: int) -> Iterator[None]:
        """Collect the first pass's activations on the tail."""

        def keep(point: Point) -> Callable[[Tensor], None]:
            def read(tensor: Tensor) -> None:
                # An outcome may run the model more than once; the tail is the same each time.
                if point not in values:
                    values[point] = tensor[0, :tail].clone()

            return read

        with self._hooks({point: keep(point) for point in self._points(self._kinds)}):
            yield

    @contextmanager
    def _writing(
        self, base: Clean, source: Clean, rows: Sequence[Patch], control: np.random.Generator | None
    ) -> Iterator[None]:
        """Replace each row's sites by the source's values."""
        import torch

        tail = len(base.tail)
        jobs: dict[Point, list[_Job]] = {}
        for row, patch in enumerate(rows):
            where = [tail + place for place in patch.places]
            for site in patch.sites:
                point = (site.kind, site.block)
                columns = self.anatomy.columns(site)
                value = source.values[point][where][:, columns]
                if control is not None:
                    old = base.values[point][where][:, columns]
                    drawn = torch.from_numpy(control.normal(size=tuple(value.shape))).to(value)
                    size = (value - old).norm() / drawn.norm().clamp_min(1e-12)
                    value = old + drawn * size
                jobs.setdefault(point, []).append(_Job(row, where, columns, value))

        def write(todo: list[_Job]) -> Callable[[Tensor], Tensor]:
            def change(tensor: Tensor) -> Tensor:
                tensor = tensor.clone()
                for row, where, columns, value in todo:
                    for place, part in zip(where, value, strict=True):
                        tensor[row, place, columns] = part
                return tensor

            return change

        with self._hooks({point: write(todo) for point, todo in jobs.items()}):
            yield

    @contextmanager
    def _hooks(self, work: Mapping[Point, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
        """Hand tensors at hook points to functions; what they return takes the place."""
        handles = []
        try:
            for (kind, block), function in work.items():
                module, is_input = self.anatomy.hook_point(Site(kind, block))
                if is_input:
                    handles.append(module.register_forward_pre_hook(_on_input(function)))
                else:
                    handles.append(module.register_forward_hook(_on_output(function)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _on_input(function: Callable[[Tensor], Tensor | None]) -> Callable[..., tuple[Tensor, ...] | None]:
    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        changed = function(args[0])
        return None if changed is None else (changed, *args[1:])

    return hook


def _on_output(function: Callable[[Tensor], Tensor | None]) -> Callable[..., object]:
    def hook(_module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]) -> object:
        # Attention gives a tuple, and blocks did before transformers 5.
        if isinstance(output, tuple):
            changed = function(output[0])
            return None if changed is None else (changed, *output[1:])
        return function(output)

    return hook
