"""A Spark session for the commands that have an engine `spark`: begun here, or joined where one is running."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.core.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def spark_session(
    master: str, scratch: Path, settings: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """A session, ended at the end if it was begun here.

    A program that runs a session already keeps it: the session given is then a second one on the same
    application, with SQL settings of its own, and `scratch` is not used.

    Args:
        master: Address of the Spark master, such as `local[*]` or `spark://host:7077`.
        scratch: Folder to spill into.
        settings: Further SQL settings.

    Raises:
        MissingExtraError: Without PySpark.
        UsageError: Without Java, for a master that cannot be used, or when the session that is running has
            another master.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtraError(extra="spark", purpose="The engine 'spark'") from error
    running = SparkSession.getActiveSession()
    handler = signal.getsignal(signal.SIGINT)
    if running is None:
        _require_java()
        builder = (
            SparkSession.builder.master(master)
            .appName("tocsin")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.local.dir", str(scratch / "spill"))
        )
        try:
            session = builder.getOrCreate()
        except (PySparkException, Py4JError) as error:
            message = (
                f"expected a Spark master that can be reached, got '{master}'. Use local[2], "
                "local-cluster[2,1,1024] or spark://HOST:PORT, and Java 17."
            )
            raise UsageError(message) from error
    else:
        found = running.sparkContext.master
        if found != master:
            message = (
                f"expected the Spark master '{master}', got a running session on '{found}'. Stop it first."
            )
            raise UsageError(message)
        session = running.newSession()
    try:
        for name, value in {"spark.sql.session.timeZone": "UTC", **(settings or {})}.items():
            session.conf.set(name, value)
        yield session
    finally:
        if running is None:
            session.stop()
            # PySpark's own handler would speak to the session that is gone.
            if handler is not None and signal.getsignal(signal.SIGINT) is not handler:
                signal.signal(signal.SIGINT, handler)


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and (home is None or not (Path(home) / "bin/java").exists()):
        message = (
            "expected Java 17 for the engine 'spark', got none. Install a runtime (Debian: "
            "openjdk-17-jre-headless), or name its folder in JAVA_HOME."
        )
        raise UsageError(message)
