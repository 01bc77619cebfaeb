"""Detectors. Importing this package registers all of them; it loads no model and no heavy library."""

from tocsin.detect import policy as _policy  # noqa: F401
