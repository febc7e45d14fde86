"""What docs and docstrings name is there: files, folders, modules and what they define."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ranker", "streams", "online_learning", "liverank", "tests", "deploy", "docs")
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "ranker/**/*.py", "streams/**/*.py", "online_learning/**/*.py",
                    "liverank/**/*.py", "deploy/**/*", "Makefile", "docker-compose.yml")
    for path in ROOT.glob(pattern)
    if path.is_file() and "__pycache__" not in path.parts
)  # fmt: skip
#: `ranker/state/fold.py`, `tests/faults`, `deploy/kafka/server.properties`
PATH = re.compile(rf"(?<![\w./:-])((?:{'|'.join(PACKAGES)})/[\w./-]*\w)")
#: `ranker.state.fold.apply_input`
#: Files that only look like modules.
FILES = {"liverank.toml"}
DOTTED = re.compile(r"`((?:ranker|streams|online_learning|liverank)(?:\.\w+)+)`")


def defined_in(module: Path) -> set[str]:
    """Names that a module or a package's `__init__` defines or imports, and their attributes' owners."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, a package, or something that a module defines."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module.is_file():
            return all(part in defined_in(module) for part in parts[length:])
    return False


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_is_there(text: Path) -> None:
    """A path is a file or a folder, a dotted name a module or what it defines."""
    content = text.read_text(encoding="utf-8")
    missing = {path for path in PATH.findall(content) if not (ROOT / path).exists()}
    missing |= {dotted for dotted in DOTTED.findall(content) if dotted not in FILES and not resolves(dotted)}
    assert not missing, f"{text.relative_to(ROOT)} names {sorted(missing)}"


#: `[text](target)`, of pictures too.
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
#: `kafka/progress.py`: the end of a path, or the whole of it.
FILE = re.compile(r"`([\w./-]+\.py)`")
PAGES = [text for text in TEXTS if text.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """What a link may lead to within a page, as GitHub names headings."""
    headings = HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file, and where a heading is named to one that the page has."""
    broken = []
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = link.partition("#")
        led = (page.parent / target).resolve() if target else page
        if not link.startswith(("http:", "https:")) and (not led.exists() or (anchor and anchor not in anchors(led))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_in_short_are_there(page: Path) -> None:
    """By the end of their path."""
    known = [f"/{path.relative_to(ROOT)}" for path in TEXTS + sorted((ROOT / "tests").rglob("*.py"))]
    named = FILE.findall(page.read_text(encoding="utf-8"))
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in known)]
