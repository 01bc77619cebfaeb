"""Detectors, one module each; importing this package registers them (entry-point group `tocsin`)."""

from tocsin.detect import biopsy as _biopsy
from tocsin.detect import harmfulness as _harmfulness
from tocsin.detect import latent_guard as _latent_guard
from tocsin.detect import policy as _policy
from tocsin.detect import policy_embedded as _policy_embedded
from tocsin.detect import refusal as _refusal
from tocsin.detect import surface as _surface

__all__: list[str] = []

_REGISTERED = (_biopsy, _harmfulness, _latent_guard, _policy, _policy_embedded, _refusal, _surface)
