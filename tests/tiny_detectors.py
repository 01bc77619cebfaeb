"""Detectors on a tiny random model: quick, and with the same code as on a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detect_items import training_items
from tiny_models import tiny_local
from tocsin.core.registry import Detector, DetectorContext, create, is_fittable
from tocsin.models.local import LocalModel

FITTED = ("harmfulness", "latent-guard", "biopsy", "policy-embedded")

Build = Callable[..., Detector]


def context_for(network: LocalModel, **settings: object) -> DetectorContext:
    """A context in which the embedded model's place is taken by another."""
    return DetectorContext(shared={"model:embedded::": network}, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def tiny() -> LocalModel:
    """A random Llama of four blocks and width 32."""
    return tiny_local(batch_size=64)


@pytest.fixture(scope="session")
def profiles(tiny: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile of each activation detector, fitted on marked and unmarked texts."""
    folder = tmp_path_factory.mktemp("profiles")
    harmless, harmful = training_items()
    for name in FITTED:
        detector = create(name, context_for(tiny))
        assert is_fittable(detector)
        detector.fit(harmless, None if name == "biopsy" else harmful).save(folder / name)
    return folder


@pytest.fixture
def build(tiny: LocalModel, profiles: Path) -> Build:
    """Builds a fitted detector by name, on the tiny model."""

    def made(name: str, **settings: object) -> Detector:
        return create(name, context_for(tiny, **({"profile": profiles} | settings)))

    return made
