"""`robustboard attack`: list, run, examples and verify through the command line; bad input; the page and the API."""

from __future__ import annotations

import json
import shlex
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from api.app import create_app
from api.settings import ApiSettings
from harness.attacks import ATTACKS, run_attack
from harness.attacks.examples import as_float
from harness.benchmarks import parse_benchmark
from harness.data import open_dataset
from harness.jobs import kernel
from harness.jobs.context import Settings, find_models, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.runner import Job, run_job
from harness.metrics.intervals import wilson
from harness.storage import open_store
from tests.api.client import Client
from tests.cli.plugin import Answer, Cli
from tests.harness.jobs.test_keep import ATTACK

MODEL = "small_cnn.supervised.digits.s0"
LIMIT = 40
SHORT = ("--eps", "4/255", "--limit", str(LIMIT), "--set", "steps=20")
RUN = ("attack", "run", MODEL, "--attack", "pgd", "--eps", "4/255", "--set", "steps=3")


class Altered(torch.nn.Module):
    """A model whose output somebody changed."""

    def __init__(self, body: Any, change: Any) -> None:
        super().__init__()
        self.body, self.change = body, change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The changed output."""
        changed: torch.Tensor = self.change(self.body(images))
        return changed


@pytest.fixture(scope="module")
def direct() -> Any:
    """PGD on the first images, called by hand."""
    data = open_dataset("digits")
    model = load(find_models(None, [MODEL])[0])
    images, labels = torch.from_numpy(as_float(data.images(0, LIMIT))), torch.from_numpy(data.labels[:LIMIT].copy())
    return run_attack(model, images, labels, "pgd", eps=4 / 255, steps=3)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store with one attack evaluation of which 5 broken images are kept."""
    path = tmp_path / "results.db"
    job = Job(benchmark=parse_benchmark(ATTACK), models=find_models(None, [MODEL]), data=open_dataset("digits"))
    store = open_store(str(path))
    run_job(store, replace(job, limit=LIMIT), SerialExecutor(), settings=Settings(keep_examples=5))
    store.close()
    connection = sqlite3.connect(path)
    with connection:  # no page can be made of the board of a benchmark that only this test knows
        connection.execute("DELETE FROM score")
    connection.close()
    return path


def refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, one line on standard error that has all parts, nothing on standard output."""
    assert answer.code == 2, answer
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    for part in parts:
        assert part in lines[0]


def save(path: Path, **arrays: Any) -> str:
    """A file of somebody's; its name."""
    with path.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return path.name


def dump(path: Path) -> list[str]:
    """Everything in a store."""
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


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


def test_verify_updates_the_best_known_figure(cli: Cli, filled: Path, direct: Any) -> None:
    """Images of another class, as bytes: what breaks, what is news, the figure with its attribution; twice is once."""
    data = open_dataset("digits")
    standing = np.flatnonzero(direct.robust)[:3]
    others = [int(np.flatnonzero(data.labels != data.labels[index])[0]) for index in standing]
    broken = int(np.flatnonzero(~direct.robust)[0])
    indices = [*standing.tolist(), broken, 499]
    pixels = np.concatenate([data.images(at, at + 1) for at in [*others, broken, 499]])
    save(Path("theirs.npz"), adversarial=pixels, indices=np.array(indices))
    words = (
        "attack",
        "verify",
        MODEL,
        "--examples",
        "theirs.npz",
        "--norm",
        "Linf",
        "--eps",
        "1",
        "--by",
        "A. <Author>",
    )
    before = dump(filled)
    dry = json.loads(cli(*words, "--dry-run", "--json").out)
    assert (dry["images"], dry["broken"], dry["new"], dry["recorded"]) == (5, 3, 3, False)
    assert dry["broken_images"] == standing.tolist()
    assert dump(filled) == before
    answer = cli(*words, "--source", "https://example.org/x?a=1&b=2")
    assert answer.code == 0, answer.err
    assert f"5 images within Linf 1 of digits: 3 break {MODEL}, 3 of them nobody had broken" in answer.out
    after = dump(filled)
    again = cli(*words)
    assert "recorded already; nothing was changed" in again.err
    assert "3 break" in again.out
    assert "0 of them nobody had broken" in again.out
    assert dump(filled) == after
    shown = json.loads(cli("show", MODEL, "--json").out)["best_known"]
    (figure,) = shown
    robust = int(direct.robust.sum())
    assert (figure["store_value"], figure["value"]) == (robust / LIMIT, robust / LIMIT)  # eps 1 is not within 4/255
    small = as_float(data.images(int(standing[0]), int(standing[0]) + 1))
    save(Path("small.npz"), adversarial=small, indices=standing[:1])
    found = json.loads(
        cli("attack", "verify", MODEL, "--examples", "small.npz", "--norm", "Linf", "--eps", "4/255", "--json").out
    )
    assert (found["broken"], found["recorded"]) == (0, False)


def test_the_figure_is_shown_with_its_attribution(cli: Cli, filled: Path) -> None:
    """Terminal, API and page; the author's name is text, the address a link that gives nothing away."""
    found = cli("attack", "run", MODEL, "-a", "apgd-ce", *SHORT, "--save", "more.npz")
    assert found.code == 0, found.err
    words = ("--by", "A. <b>Author</b>", "--source", "https://example.org/x?a=1&b=2")
    answer = cli(
        "attack", "verify", MODEL, "--examples", "more.npz", "--norm", "Linf", "--eps", "4/255", "--json", *words
    )
    assert answer.code == 0, answer.err
    (figure,) = json.loads(answer.out)["best_known"]
    assert figure["value"] < figure["store_value"]
    assert figure["broken_by_examples"] == json.loads(answer.out)["new"]
    assert figure["attributions"][0]["source"] == "https://example.org/x?a=1&b=2"
    table = cli("show", MODEL).out
    assert "best known" in table
    assert "A. <b>Author</b>, https://example.org/x?a=1&b=2" in table
    client = Client(create_app(ApiSettings(db=str(filled))))
    assert client.get(f"/api/v1/models/{MODEL}").json()["best_known"] == [figure]
    page = client.get(f"/models/{MODEL}")
    assert page.status_code == 200, page.text
    soup = BeautifulSoup(page.text, "html.parser")
    (row,) = soup.select("section[aria-labelledby=best-known] tbody tr")
    assert "A. <b>Author</b>" in row.get_text()
    assert not row.select("b")
    (link,) = row.select("a")
    assert link["href"] == "https://example.org/x?a=1&b=2"
    assert {"nofollow", "noopener"} <= set(link["rel"])


def test_addresses_that_a_browser_would_run_are_never_links(cli: Cli, filled: Path) -> None:
    """Even if they are in the store, which another version or hand may have written."""
    cli("attack", "run", MODEL, "-a", "apgd-ce", *SHORT, "--save", "more.npz")
    answer = cli("attack", "verify", MODEL, "--examples", "more.npz", "--norm", "Linf", "--eps", "4/255")
    assert answer.code == 0, answer.err
    connection = sqlite3.connect(filled)
    with connection:
        connection.execute("UPDATE claim SET source = 'javascript:alert(1)'")
    connection.close()
    client = Client(create_app(ApiSettings(db=str(filled))))
    soup = BeautifulSoup(client.get(f"/models/{MODEL}").text, "html.parser")
    (row,) = soup.select("section[aria-labelledby=best-known] tbody tr")
    assert "javascript:alert(1)" in row.get_text()
    assert not [tag for tag in soup.select("a") if str(tag["href"]).startswith("javascript")]


@pytest.mark.parametrize(
    ("arrays", "arguments", "parts"),
    [
        ({"indices": np.arange(2)}, (), ("'adversarial' is missing",)),
        ({"adversarial": np.array([[None]])}, (), ("type object",)),
        ({"adversarial": np.zeros((2, 3, 8, 8), np.float32), "indices": np.arange(2)}, (), ("got shape (2, 3, 8, 8)",)),
        (
            {"adversarial": np.ones((2, 3, 32, 32)), "indices": np.array([3, 3]), "labels": np.array([9, 9])},
            (),
            ("row 1 has image 3 a second time",),
        ),
        (
            {"adversarial": np.ones((2, 3, 32, 32)), "indices": np.array([3, 4]), "labels": np.array([77, 77])},
            (),
            ("labels: image 3 has 77", "norm: image 3 is", "expected at most 8/255", "2 of 2 images are too far"),
        ),
        ({"adversarial": np.full((1, 3, 32, 32), np.nan), "indices": np.array([3])}, (), ("image 3 has nan",)),
        ({"adversarial": np.full((1, 3, 32, 32), 255.0), "indices": np.array([3])}, (), ("image 3 has 255",)),
        ({"adversarial": np.ones((1, 3, 32, 32)), "indices": np.array([500])}, (), ("row 0 has 500", "0 to 499")),
        ({"adversarial": np.ones((1, 3, 32, 32)), "evil": np.ones(1)}, (), ("'evil.npy' is unknown",)),
        ({}, ("--eps", "0"), ("eps: got '0'",)),
        ({}, ("--norm", "l2"), ("norm: got 'l2'",)),
        ({}, ("--by", "x" * 201), ("by: got", "200 characters")),
        ({}, ("--source", "javascript:alert(1)"), ("source: got", "http or https")),
        ({}, ("--examples", "none.npz"), ("'none.npz' cannot be read",)),
        ({}, ("--batch-size", "0"), ("batch-size: got 0",)),
    ],
)
def test_bad_requests_to_verify(
    cli: Cli, tmp_path: Path, arrays: dict[str, Any], arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    """One line with all reasons, exit code 2, no store."""
    save(tmp_path / "bad.npz", **arrays)
    words = ("attack", "verify", MODEL, "--examples", "bad.npz", "--norm", "Linf", "--eps", "8/255")
    refused(cli(*words, *arguments), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def test_a_refusal_changes_no_store(cli: Cli, filled: Path) -> None:
    """Good images beside one that is too far: nothing of the file is stored."""
    data = open_dataset("digits")
    pixels = np.array(data.images(0, 4))
    pixels[2] = 255 - pixels[2]
    save(Path("mixed.npz"), adversarial=pixels, indices=np.arange(4))
    before, files = dump(filled), sorted(Path("results.blobs").iterdir())
    words = ("attack", "verify", MODEL, "--examples", "mixed.npz", "--norm", "L2", "--eps", "0.5")
    refused(cli(*words), "norm: image 2 is", "1 of 4 images are too far")
    assert dump(filled) == before
    assert sorted(Path("results.blobs").iterdir()) == files


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
