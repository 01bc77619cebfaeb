"""The repository as others get it: nothing of one machine in it, and what its pages say is true."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# Text that reorders itself on the screen can hide code from a reviewer (CVE-2021-42574).
BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MACHINE_PATH = re.compile(r"(?<![\w.~*])/(?:home|Users)/[a-z]\w+/|(?<![\w.~*])/root/|(?<!\w)[A-Z]:\\Users\\")
REGISTRY = re.compile(
    r"--(?:extra-)?index-url|--find-links|PIP_(?:EXTRA_)?INDEX_URL|PIP_FIND_LINKS|"
    r"https?://\S*(?:/simple\b|pythonhosted|pytorch\.org/whl|devpi|artifactory|nexus)",
    re.IGNORECASE,
)
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][0-9A-Za-z.]*)")
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
PAGES = ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md"))]


@functools.cache
def texts() -> dict[str, str]:
    """Every text file of the repository but this one, new files included."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, to know which files belong to the repository")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        try:
            found[name] = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
    return found


def places(pattern: re.Pattern[str]) -> list[str]:
    """`file:line` of every match; never the text."""
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in texts().items()
        for match in pattern.finditer(text)
    ]


def test_no_file_names_a_folder_of_one_machine() -> None:
    here = re.compile("|".join(re.escape(str(path)) + r"(?![\w-])" for path in (ROOT, Path.home())))
    assert places(MACHINE_PATH) == []
    assert places(here) == []


def test_no_file_names_a_package_registry() -> None:
    assert places(REGISTRY) == []


def test_no_file_holds_characters_that_reorder_text() -> None:
    assert places(BIDIRECTIONAL) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "open /home/someone/data"),
        (MACHINE_PATH, "in /Users/someone/x"),
        (MACHINE_PATH, "/root/.cache"),
        (REGISTRY, "pip install --index-url x"),
        (REGISTRY, "https://example.org/simple/"),
        (BIDIRECTIONAL, "a\u202eb"),
    ],
)
def test_the_guards_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def constraints() -> dict[str, str]:
    """Name to version; comments left out."""
    lines = (ROOT / "constraints.txt").read_text("ascii").splitlines()
    pins = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    wrong = [number for number, pin in enumerate(pins, 1) if pin is None]
    assert wrong == [], f"expected NAME==VERSION only; other lines: {wrong}"
    names = [canonicalize_name(pin[1]) for pin in pins if pin is not None]
    assert len(names) == len(set(names))
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin is not None}


def test_constraints_pin_every_requirement_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    pins = constraints()
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != canonicalize_name(project["name"]):
            assert name in pins, f"{name} is not in constraints.txt; run make constraints"
            assert requirement.specifier.contains(pins[name]), (
                f"{name}=={pins[name]} is outside {requirement}"
            )


def test_torch_is_pinned_to_one_version_everywhere() -> None:
    assert constraints()["torch"] in texts()["Makefile"]


def test_the_licence_is_the_unchanged_apache_text() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_the_changelog_speaks_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def commands(page: str) -> list[list[str]]:
    """Words of the commands in a page's `sh` blocks, and in `console` blocks those after a prompt."""
    found = []
    for language, block in re.findall(
        r"^```(sh|console)\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S
    ):
        for line in block.replace("\\\n", " ").splitlines():
            if language == "console" and not line.startswith("$ "):
                continue
            words = line.removeprefix("$ ").partition(" #")[0].split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


@functools.cache
def help_of(*words: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("tocsin"), *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"tocsin {' '.join(words)} --help: exit code {done.returncode}"
    return done.stdout


GROUPS = {"annotate", "explain", "judges", "trace"}
"""Commands with commands of their own."""


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_a_page_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for words in commands(page):
        if words[0] == "make":
            for target in (word for word in words[1:] if "=" not in word):
                assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"make {target}"
        elif words[0] == "tocsin" and words[1:] and not words[1].startswith("-"):
            text = help_of(*words[1 : 3 if words[1] in GROUPS else 2])
            for option in (word.partition("=")[0] for word in words[2:] if word.startswith("--")):
                assert re.search(rf"{re.escape(option)}(?![\w-])", text), f"tocsin {words[1]} {option}"


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_compiles_and_its_imports_work(page: str) -> None:
    for block in python_blocks(page):
        tree = ast.parse(block, filename=page)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), page, "exec"), {})


def test_the_example_of_a_detector_works(tmp_path: Path) -> None:
    blocks = [block for block in python_blocks("docs/python-api.md") if "@detector(" in block]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("PLEASE HELP ME\nplease help me\n123\n")
    # In an interpreter of its own, so that the registry of this one stays as it is.
    use = f"""
from tocsin.core.registry import create
from tocsin.sources import open_source
found = create(NAME, DetectorContext())
assert isinstance(found, Detector)
print([verdict.label for verdict in found.detect(open_source({str(prompts)!r}).items())])
"""
    done = subprocess.run(
        [sys.executable, "-c", blocks[0] + use], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['loud', 'quiet', 'abstained']"
