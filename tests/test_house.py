"""The house stays as its plan says: imports go one way, and the engine needs no browser."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from sam_core.config import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "sam_core"

#: Each part imports only from parts above it (and from itself).
ORDER = [
    ("config", "process"),
    ("device",),
    ("datasets",),
    ("augment",),
    ("models",),
    ("pseudo_attention", "losses", "overlay"),
    ("recording",),
    ("evaluation",),
    ("training",),
    ("benchmark",),
    ("cli",),
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def part_of(path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path) -> set[str]:
    """The parts of sam_core that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("sam_core.")}
    return found


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if part_of(path) not in ("__init__", "__main__")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = RANK[part_of(path)]
    for name in imports_of(path):
        assert RANK[name] <= own, f"{path.name} must not import {name}"


def run_python(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def test_the_engine_never_imports_what_only_the_browser_needs():
    modules = ", ".join(f"sam_core.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}" for path in MODULES)
    code = f"import sys, {modules.replace('.__init__', '')}\n"
    code += "print([name for name in ('gradio', 'plotly', 'pandas', 'matplotlib', 'explorer') if name in sys.modules])"
    assert run_python(code) == "[]"


def test_importing_the_package_alone_is_instant_because_it_leaves_torch_alone():
    assert run_python("import sys, sam_core; print('torch' in sys.modules)") == "False"


def test_help_does_not_wait_for_torch():
    code = "import sys; from sam_core.cli.main import build_parser; build_parser(); print('torch' in sys.modules)"
    assert run_python(code) == "False"
