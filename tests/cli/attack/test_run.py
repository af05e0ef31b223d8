"""`robustboard attack`: list, run and examples through the command line; bad input; models that misbehave."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.attacks import ATTACKS
from harness.benchmarks import parse_benchmark
from harness.data import open_dataset
from harness.jobs import kernel
from harness.jobs.context import load
from harness.metrics.intervals import wilson
from tests.cli.attack.support import LIMIT, MODEL, RUN, Altered, save
from tests.cli.plugin import Cli
from tests.cli.support import refused
from tests.harness.jobs.test_keep import ATTACK


def test_list_has_every_attack_with_its_options(cli: Cli) -> None:
    """JSON agrees with the registry; the table names every attack and option."""
    listed = {item["name"]: item for item in json.loads(cli("attack", "list", "--json").out)}
    assert set(listed) == set(ATTACKS.names())
    for name, item in listed.items():
        attack = ATTACKS.get(name)
        assert (item["forwards"], item["backwards"]) == attack.budget(attack.complete({}), 10)
        assert {option["name"]: option["default"] for option in item["options"]} == attack.complete({})
        assert item["norms"] == list(attack.norms)
    table = cli("attack", "list").out
    one = cli("attack", "list", "square").out
    assert "Andriushchenko" in one
    assert "autoattack" not in one
    for name, item in listed.items():
        assert name in table
        assert item["source"] in table
        assert all(option["domain"] in table for option in item["options"])
    refused(cli("attack", "list", "pdg"), "did you mean 'pgd'?")


def test_run_reports_what_the_attack_found(cli: Cli, tmp_path: Path, direct: Any) -> None:
    """Every number equals the attack called by hand; no store is made; the last line does the same again."""
    answer = cli(*RUN, "--limit", str(LIMIT), "--save", "broken.npz", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    robust = int(direct.robust.sum())
    low, high = wilson(robust, LIMIT)
    assert found["robust"] == {"value": robust / LIMIT, "low": low, "high": high, "right": robust, "bound": "exact"}
    assert found["clean"]["right"] == LIMIT - direct.broken_by.count("clean")
    assert found["broken_by"].get("pgd") == direct.broken_by.count("pgd")
    assert found["forwards_per_image"] == direct.forwards / LIMIT
    assert found["backwards_per_image"] == direct.backwards / LIMIT
    assert found["borderline"] == int(direct.borderline.sum())
    assert [path.name for path in tmp_path.iterdir()] == ["broken.npz"]
    with np.load("broken.npz") as file:
        broken = [row for row, name in enumerate(direct.broken_by) if name == "pgd"]
        assert file["indices"].tolist() == broken
        assert np.array_equal(file["adversarial"], direct.adversarial[broken].numpy())
        assert str(file["norm"]) == "Linf"
        assert float(file["eps"]) == 4 / 255
    again = cli(*shlex.split(found["reproduce"])[1:])
    assert again.code == 0, again.err
    assert f"robust accuracy: {robust / LIMIT:.4f}  95 % {low:.4f} .. {high:.4f}" in again.out
    assert f"reproduce: {found['reproduce']}" in again.out


def test_run_marks_bounds_and_flags(cli: Cli) -> None:
    """An upper bound is shown as such, and a ball that holds every image is a flag with evidence."""
    answer = cli("attack", "run", MODEL, "-a", "fast", "--norm", "L1", "--eps", "4000", "--limit", "16")
    assert answer.code == 0, answer.err
    assert "robust accuracy: <= " in answer.out
    assert "flag ball_covers_images: eps 4000 is at least 3072" in answer.out


def test_run_hands_on_the_bound_of_an_attack_inside(cli: Cli) -> None:
    """Bisection over the fast ensemble is an upper bound; over PGD it is that attack's own."""
    answers = [
        cli(
            "attack",
            "run",
            MODEL,
            "-a",
            "bisect",
            "--eps",
            "2/255",
            "--limit",
            "4",
            "--set",
            "levels=1",
            "--set",
            inner,
        )
        for inner in ("inner=fast", "inner=pgd")
    ]
    assert ["robust accuracy: <= " in answer.out for answer in answers] == [True, False], answers


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--eps", "0"), ("eps: got '0'", "positive number")),
        (("--eps=-8/255",), ("eps: got '-8/255'",)),
        (("--eps", "eight"), ("eps: got 'eight'",)),
        (("--norm", "L0"), ("norm: got 'L0'", "Linf, L2, L1")),
        (("--attack", "autoatack"), ("did you mean 'autoattack'?",)),
        (("--set", "step=3"), ("unknown option of pgd 'step'", "did you mean 'steps'?")),
        (("--set", "steps"), ("set: got 'steps'", "OPTION=VALUE")),
        (("--set", "steps=3"), ("set: got 'steps=3'", "once")),
        (("--set", "restarts=0"), ("restarts: got 0", "integer from 1")),
        (("--set", "restarts=1.5"), ("restarts: got '1.5'", "integer from 1")),
        (("--set", "random_start=yes"), ("random_start: got 'yes'", "true or false")),
        (("--set", "step_size=x"), ("step_size: got 'x'",)),
        (("--set", "loss=hinge"), ("loss: got 'hinge'", "one of ce, dlr")),
        (("--precision", "int8"), ("precision: got 'int8'", "float32, bf16")),
        (("--seed=-1",), ("seed: got -1",)),
        (("--limit", "0"), ("limit: got 0", "1 to 500")),
        (("--limit", "501"), ("limit: got 501",)),
        (("--batch-size", "0"), ("batch-size: got 0",)),
        (("--device", "gpu"), ("device: got 'gpu'",)),
        (("--dataset", "digit"), ("did you mean 'digits'?",)),
        (("--save", "broken.txt"), ("save: got 'broken.txt'", ".npz")),
        (("--save", "none/broken.npz"), ("save: got", "folder that exists")),
    ],
)
def test_bad_requests_to_run(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    """One line, exit code 2, nothing written."""
    refused(cli(*RUN, *arguments), *parts)
    assert list(tmp_path.iterdir()) == []


def test_kept_images_are_listed_and_exported(cli: Cli, filled: Path) -> None:
    """By model and by evaluation; an exported file passes the check and breaks the model."""
    (listed,) = json.loads(cli("attack", "examples", MODEL, "--json").out)
    assert (listed["label"], listed["images"]) == ("pgd Linf 4/255", 5)
    assert listed["evaluation"][:12] in cli("attack", "examples", MODEL).out
    answer = cli("attack", "examples", listed["evaluation"][:10], "--out", "kept.npz")
    assert answer.code == 0, answer.err
    assert "wrote kept.npz: 5 images" in answer.err
    found = json.loads(
        cli("attack", "verify", MODEL, "--examples", "kept.npz", "--norm", "Linf", "--eps", "4/255", "--json").out
    )
    assert (found["images"], found["broken"], found["new"], found["recorded"]) == (5, 5, 0, True)
    refused(cli("attack", "examples", "small_cnn"), "unknown model or evaluation 'small_cnn'")
    refused(cli("attack", "examples", MODEL, "--out", "kept.txt"), "out: got 'kept.txt'")


def test_run_keeps_images_on_request(cli: Cli, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is bounded; a run keeps images as it computes, and says what it does not go back to."""
    monkeypatch.setattr("harness.benchmarks.load_benchmark", lambda name: parse_benchmark(ATTACK))
    words = ("run", "-m", MODEL, "--workers", "1", "--keep-examples")
    refused(cli(*words, "1001"), "keep-examples: got 1001", "0 to 1000")
    answer = cli(*words, "1000", "--limit", str(LIMIT + 20))
    assert answer.code == 0, answer.err
    assert "what the store held already is not computed again" in answer.err
    (listed,) = json.loads(cli("attack", "examples", MODEL, "--json").out)
    assert listed["images"] > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits * torch.nan, "not finite"),
        (lambda logits: logits[:, :9], "returned 9 logits an image, expected 10"),
        (lambda logits: torch.cat([logits, logits], dim=1), "returned 20 logits an image, expected 10"),
        (lambda logits: logits.detach(), "no gradient"),
    ],
)
def test_models_that_misbehave_fail_with_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    """The work failed: exit code 1, nothing on standard output, no file and no store."""
    monkeypatch.setattr(kernel, "load", lambda source: Altered(load(source), change))
    answer = cli(*RUN, "--limit", "8", "--save", "broken.npz")
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    if "gradient" in message:
        return  # judging images needs none
    data = open_dataset("digits")
    save(Path("theirs.npz"), adversarial=data.images(0, 2), indices=np.arange(2))
    answer = cli("attack", "verify", MODEL, "--examples", "theirs.npz", "--norm", "Linf", "--eps", "0.1")
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.npz"]


def test_probabilities_are_flagged(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs that sum to one are no logits: the verdict is given, with the doubt and its evidence."""
    monkeypatch.setattr(kernel, "load", lambda source: Altered(load(source), lambda logits: logits.softmax(dim=1)))
    found = json.loads(cli(*RUN, "--limit", "8", "--json").out)
    assert "probabilities" in found["flags"]
    assert found["flags"]["probabilities"]


def test_square_is_doubted_over_all_images(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding hides the gradient from FGSM and nothing from random search: the doubt is about all images together."""

    def rounding(source: Any) -> Altered:
        inner = load(source)
        return Altered(lambda images: inner((images * 15).round() / 15), lambda logits: logits)

    monkeypatch.setattr(kernel, "load", rounding)
    words = ("--set", "version=custom", "--set", "attacks=fgsm,square", "--limit", "40", "--json")
    found = json.loads(cli("attack", "run", MODEL, "-a", "autoattack", "--eps", "16/255", *words).out)
    taken = found["broken_by"]["square"]
    assert taken > 1
    assert found["flags"]["square_beats_white_box"] == (
        f"Square broke {taken} of 40 images that stood against the white-box attacks"
    )


def test_run_has_the_threads_of_a_worker(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread as in a run, whatever the process has, which gets its own back."""
    seen: set[int] = set()

    def watched(logits: torch.Tensor) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return logits

    monkeypatch.setattr(kernel, "load", lambda source: Altered(load(source), watched))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert cli(*RUN, "--limit", "4").code == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == {1}


def test_a_model_for_other_images_is_refused(cli: Cli, tmp_path: Path) -> None:
    """The data set's classes and size must be the model's."""
    folder = tmp_path / "pictures"
    from PIL import Image

    for name in ("a", "b"):
        (folder / "test" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / "test" / name / "0.png")
    assert cli("datasets", "add", "pictures", "--path", str(folder)).code == 0
    refused(cli(*RUN, "--dataset", "pictures"), f"model: got '{MODEL} (10 classes)'", "a model of 2 classes")
