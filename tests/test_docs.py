"""Docs cannot rot: README's commands run, and everything registered is described."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

from tests.cli.plugin import Cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")


def commands() -> list[str]:
    """`robustboard ...` lines of README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix(".venv/bin/") for line in lines if "robustboard" in line]


def all_commands() -> list[str]:
    """Every command of the command line, groups spelled out."""
    from harness.cli.app import app

    root = typer.main.get_command(app)
    found = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [f"robustboard {name} {sub}" for sub in inner] if inner else [f"robustboard {name}"]
    return found


def test_the_readme_has_commands() -> None:
    """The extraction below finds something to check."""
    assert len(commands()) >= 10
    assert "make quickstart" in README
    assert "make test" in README


@pytest.mark.parametrize("line", commands())
def test_readme_commands_exist_with_their_options(line: str) -> None:
    """Each command and each of its options is one that the command line knows."""
    from harness.cli.app import app

    _, *words = shlex.split(line)
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert not hasattr(command, "commands"), f"{line}: not a complete command"
    assert {word for word in words if word.startswith("-")} <= known


def test_readme_story_runs(cli: Cli, tmp_path: Path) -> None:
    """The README's own-model story, on the test photographs and a checkpoint of ours, in README's order."""
    from models_zoo.architectures import ARCHITECTURES
    from models_zoo.checkpoints import save_state_dict

    photos = tmp_path / "photos"
    photos.symlink_to(ROOT / "tests" / "fixtures" / "photos")
    save_state_dict(ARCHITECTURES.get("resnet18").build(10).state_dict(), tmp_path / "model.safetensors")
    story = README.split("## Your own model")[1].split("## From Python")[0]
    for line in re.findall(r"^robustboard .*$", story, flags=re.MULTILINE):
        if line.startswith("robustboard train"):
            continue  # minutes of work; tests/models_zoo/test_train.py trains
        changed = line.replace("~/images/photos", str(photos.resolve())).replace("model.pt", "model.safetensors")
        arguments = shlex.split(changed.replace("--limit 200", "--limit 2"))[1:]
        answer = cli(*arguments, *(["--workers", "1"] if arguments[0] == "run" else []))
        # untrained weights do not keep the claim of .93, and the pre-flight says so
        assert answer.code == (1 if arguments[1] == "check" else 0), f"{line}: {answer.err}"


def test_readme_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notebook example works as written, on fewer images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBUSTBOARD_DB", raising=False)
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(block.replace("limit=16", "limit=2"), "README.md", "exec"), {})  # noqa: S102 - our own README
    assert "clean_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("command", all_commands())
def test_every_command_is_described_and_has_an_example(cli: Cli, command: str) -> None:
    """In the reference, and in its own help with an example."""
    assert f"`{command}`" in REFERENCE
    answer = cli(*command.split()[1:], "--help")
    assert answer.code == 0
    assert "Example" in answer.out
    assert f"robustboard {command.split()[1]}" in answer.out


def test_every_setting_is_described() -> None:
    """Each environment variable with its default."""
    from api.settings import CORS
    from harness.settings import SETTINGS

    for setting in (*SETTINGS, CORS):
        assert f"| `{setting.name}` |" in REFERENCE
        if setting.default:
            assert f"| `{setting.default}` |" in REFERENCE


def test_every_registered_name_is_described() -> None:
    """Data sets, suites, corruptions, attacks, measures, scores, architectures, recipes, benchmarks and columns."""
    from harness.attacks import ATTACKS
    from harness.benchmarks import benchmark_names, load_benchmark
    from harness.corruptions.suites import SUITES
    from harness.data import DATASETS, PUBLIC
    from harness.measures import MEASURES
    from harness.metrics.scores import SCORES
    from models_zoo.architectures import ARCHITECTURES
    from models_zoo.recipes import RECIPES

    names = [
        name
        for registry in (ATTACKS, SUITES, DATASETS, PUBLIC, MEASURES, SCORES, ARCHITECTURES, RECIPES)
        for name in registry
    ]
    names += [name for suite in SUITES for name in SUITES.get(suite).names]
    for name, version in benchmark_names():
        names.append(f"{name}@{version}")
        names += [column.name for column in load_benchmark(f"{name}@{version}").columns]
    missing = sorted({name for name in names if f"`{name}`" not in REFERENCE})
    assert not missing


def test_every_route_is_described() -> None:
    """docs/api.md names each path of the service."""
    from api.app import create_app

    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    paths = set(create_app().openapi()["paths"])
    assert paths
    missing = sorted(path for path in paths if path not in text)
    assert not missing


def test_links_in_the_docs_lead_somewhere() -> None:
    """Relative links of README and docs point to files that exist."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert ROOT / "docs" / "studies" / "README.md" in pages
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / unquote(target)).exists(), f"{page.name}: {target}"
