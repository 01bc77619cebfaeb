"""The same relational plan on Spark, with two worker processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pyspark")
pytest.importorskip("ibis")
pq = pytest.importorskip("pyarrow.parquet")

from tocsin.trace.pipeline import TraceOptions, run_trace  # noqa: E402
from tocsin.trace.simulate import Simulation, simulate  # noqa: E402


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:pyspark.*", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:PySpark does not yet:FutureWarning")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17")
def test_two_workers_give_the_tables_of_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path / "home"))
    simulate(Simulation(500, 20, seed=5), tmp_path / "log")
    log = tmp_path / "log/messages.parquet"
    one = run_trace(log, tmp_path / "duckdb", TraceOptions())
    spark = TraceOptions(engine="spark", master="local-cluster[2,1,1024]")
    two = run_trace(log, tmp_path / "spark", spark)
    assert one.counts == two.counts
    assert pq.read_table(one.events).to_pylist() == pq.read_table(two.events).to_pylist()
    assert pq.read_table(one.attributes).to_pylist() == pq.read_table(two.attributes).to_pylist()
    assert one.study == two.study
