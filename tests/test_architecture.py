"""The house plan, held against the code: which way imports run, and what is never imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("harness", "models_zoo", "api") for path in (ROOT / package).rglob("*.py"))

ALLOWED = {
    "harness": {"harness"},
    "models_zoo": {"models_zoo", "harness"},
    "api": {"api", "harness"},
    "harness/cli": {"harness", "models_zoo", "api"},
}
LEAVES = ("errors", "types", "digest", "registry", "settings", "rng")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Names of imported modules; with `top_level`, only of imports that run when the module is imported."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = _import_time(tree) if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _import_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _import_time(node)


def owner(path: Path) -> str:
    """The part of the house that a file belongs to."""
    relative = path.relative_to(ROOT).as_posix()
    return "harness/cli" if relative.startswith("harness/cli/") else relative.split("/", 1)[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    """The api and models_zoo packages import harness, never the other way round; harness/cli may import anything."""
    ours = {name.split(".")[0] for name in imports(path)} & {"harness", "models_zoo", "api", "tests"}
    assert ours <= ALLOWED[owner(path)]


def test_leaves_import_no_other_part() -> None:
    """The leaves stand on each other only, and never on torch or a database."""
    for name in LEAVES:
        found = set(imports(ROOT / "harness" / f"{name}.py", top_level=True))
        assert not {item for item in found if item.split(".")[0] in ("torch", "sqlalchemy", "pandas")}
        assert {item.split(".")[1] for item in found if item.startswith("harness.")} <= set(LEAVES)


def test_only_the_command_line_imports_the_cli() -> None:
    """Nothing depends on the composition root."""
    for path in MODULES:
        if owner(path) != "harness/cli":
            assert not [name for name in imports(path) if name.startswith("harness.cli")], path


def test_sqlalchemy_stays_in_its_rooms() -> None:
    """Tables are known to the storage package and to the two modules that work inside its transactions."""
    rooms = ("harness/storage/", "harness/scoring.py", "harness/maintenance.py", "harness/jobs/runner.py")
    for path in MODULES:
        if any(name.split(".")[0] in ("sqlalchemy", "alembic") for name in imports(path)):
            assert path.relative_to(ROOT).as_posix().startswith(rooms), path


@pytest.mark.parametrize(
    "module",
    ["harness", "models_zoo", "api.app", "harness.leaderboard", "harness.jobs.plan", "harness.cli.app", "harness.data"],
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    """Boards, plans and --help answer without torch."""
    code = f"import sys, {module}; print([name for name in ('torch', 'ray', 'cv2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_help_is_fast() -> None:
    """`robustboard --help` imports neither torch nor the database and stays under 0.7 s of CPU time."""
    code = (
        "import sys, time\n"
        "sys.argv = ['robustboard', '--help']\n"
        "from harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = [name for name in ('torch', 'sqlalchemy', 'pandas', 'numpy') if name in sys.modules]\n"
        "print('HEAVY', heavy, file=sys.stderr)\n"
        "print('CPU', time.process_time(), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "leaderboard" in done.stdout
    assert "HEAVY []" in done.stderr
    assert float(done.stderr.rsplit("CPU", 1)[1]) < 0.7


def test_no_module_is_too_long() -> None:
    """Past some 400 lines a file usually has two subjects."""
    long = {path.relative_to(ROOT).as_posix(): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_the_engine_names_the_zoo_once() -> None:
    """The engine names the zoo in one place, as a string."""
    named = [
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if owner(path) == "harness" and '"models_zoo' in path.read_text("utf-8")
    ]
    assert named == ["harness/jobs/context.py"]
