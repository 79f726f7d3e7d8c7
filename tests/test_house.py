"""The house stays as its plan says: imports go one way, and the engine needs no browser."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sam_core.config import PROJECT_ROOT

#: Each part imports only from parts above it (and from those beside it). A dot divides a package into its modules.
ORDER = {
    "sam_core": [
        ("config", "process", "locks", "zips"),
        ("device", "team"),
        ("datasets",),
        ("augment",),
        ("models",),
        ("pseudo_attention", "losses", "overlay"),
        ("recording",),
        ("evaluation",),
        ("training",),
        ("benchmark",),
        ("cli",),
    ],
    "explorer": [
        ("files", "kept", "places", "figures", "theme"),
        ("data.shelf", "data.additions", "data.sample_pictures", "data.class_counts"),
        ("data.contents", "data.datasets"),
        ("data.checks",),
        ("runs.states", "runs.pruning", "runs.opened"),
        ("runs.jobs", "runs.library", "runs.live", "runs.outlook"),
        ("attention.gallery", "attention.timelines", "attention.sheets", "attention.networks"),
        ("attention.photographs",),
        ("form", "setup", "context"),
        ("routes.answers",),
        ("routes.page", "routes.runs", "routes.attention", "routes.data"),
        ("routes.assembly", "warming"),
        ("views", "api"),
        ("app",),
        ("server",),
        ("demo", "benchmark"),
        ("cli",),
    ],
}
RANK = {package: {name: rank for rank, names in enumerate(order) for name in names} for package, order in ORDER.items()}


def part_of(package: str, module: str) -> str:
    """The part in `ORDER` that a module, or a name in it, belongs to: "data.shelf" for "data.shelf.Shelf"."""
    words = module.split(".")
    parts = [".".join(words[:length]) for length in range(len(words), 0, -1)]
    return next((part for part in parts if part in RANK[package]), module)


def module_of(path: Path) -> tuple[str, str]:
    """The package of a module and its name there: ("explorer", "data.shelf")."""
    package, *names = path.relative_to(PROJECT_ROOT).with_suffix("").parts
    return package, ".".join(names)


def imports_of(path: Path, package: str) -> set[str]:
    """The parts of a package that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {part_of(package, name.partition(".")[2]) for name in names if name.startswith(f"{package}.")}
    return found


MODULES = [
    path
    for package in ORDER
    for path in sorted((PROJECT_ROOT / package).rglob("*.py"))
    if module_of(path)[1] not in ("__init__", "__main__")
]
ENGINE = [path for path in MODULES if module_of(path)[0] == "sam_core"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_imports_go_one_way(path):
    package, module = module_of(path)
    own = part_of(package, module)
    if path.name == "__init__.py" and own not in RANK[package]:
        assert imports_of(path, package) == set(), "a package that ORDER divides imports nothing by itself"
        return
    for name in imports_of(path, package):
        assert RANK[package][name] <= RANK[package][own], f"{path.name} must not import {name}"


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_the_engine_knows_nothing_of_the_explorer(path):
    assert imports_of(path, "explorer") == set()


def run_python(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def test_the_engine_never_imports_what_only_the_browser_needs():
    modules = ", ".join(".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts) for path in ENGINE)
    code = f"import sys, {modules.replace('.__init__', '')}\n"
    code += "print([name for name in ('gradio', 'plotly', 'pandas', 'matplotlib', 'explorer') if name in sys.modules])"
    assert run_python(code) == "[]"


def test_importing_the_package_alone_is_instant_because_it_leaves_torch_alone():
    assert run_python("import sys, sam_core; print('torch' in sys.modules)") == "False"


def test_help_does_not_wait_for_torch():
    code = "import sys; from sam_core.cli.main import build_parser; build_parser(); print('torch' in sys.modules)"
    assert run_python(code) == "False"
