"""A Spark session for commands that have an engine `spark`: begun here, or joined where one is running."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.core.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MASTER = re.compile(r"local(\[[\d*,. ]+\])?|local-cluster\[[\d, ]+\]|(spark|k8s)://.+|yarn")
_PYTHON = "PYSPARK_PYTHON"
"""Interpreter of the workers."""


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
    try:
        running = SparkSession.active()
    except PySparkException:
        running = None
    with ExitStack() as stack:
        # PySpark warns of the newest pandas, of which nothing of ours makes use.
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "PySpark does not yet", FutureWarning)
        unusable = (
            f"expected a Spark master that can be reached, got '{master}'. Use local[2], "
            "local-cluster[2,1,1024], spark://HOST:PORT, yarn or k8s://..., and Java 17."
        )
        if running is None:
            if not _MASTER.fullmatch(master):  # Java would answer with a stack trace
                raise UsageError(unusable)
            stack.enter_context(_prepared())
            try:
                session = (
                    SparkSession.builder.master(master)
                    .appName("tocsin")
                    .config("spark.ui.enabled", "false")
                    .config("spark.ui.showConsoleProgress", "false")
                    .config("spark.log.level", "ERROR")
                    .config("spark.local.dir", str(scratch / "spill"))
                    .getOrCreate()
                )
            except (PySparkException, Py4JError) as error:
                raise UsageError(unusable) from error

            def stop() -> None:
                with suppress(Py4JError):  # where the application has ended by itself
                    session.sparkContext.setLogLevel("OFF")  # of stack traces of tasks that are cut short
                session.stop()

            stack.callback(stop)
        else:
            found = running.sparkContext.master
            if found != master:
                message = (
                    f"expected the Spark master '{master}', got a running session on '{found}'. "
                    "Stop that session, or name its master."
                )
                raise UsageError(message)
            session = running.newSession()
        for name, value in {"spark.sql.session.timeZone": "UTC", **(settings or {})}.items():
            session.conf.set(name, value)
        yield session


@contextmanager
def _prepared() -> Iterator[None]:
    """This process made ready for a session, and as it was before at the end.

    Raises:
        UsageError: Without Java.
    """
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and (home is None or not (Path(home) / "bin/java").exists()):
        message = (
            "expected Java 17 for the engine 'spark', got none. Install a runtime (Debian: "
            "openjdk-17-jre-headless), or name its folder in JAVA_HOME."
        )
        raise UsageError(message)
    # Otherwise workers would run whatever "python3" is on their path.
    chosen = os.environ.get(_PYTHON)
    os.environ.setdefault(_PYTHON, sys.executable)
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if chosen is None:
            os.environ.pop(_PYTHON, None)
        # PySpark's own handler would speak to the session that is gone.
        if handler is not None and signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
