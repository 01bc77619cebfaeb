"""Tracing a message log, from Python."""

from __future__ import annotations

from tocsin.trace.pipeline import TraceOptions, TraceResult, run_trace
from tocsin.trace.simulate import Simulation, simulate

__all__ = ["Simulation", "TraceOptions", "TraceResult", "run_trace", "simulate"]
