"""`robustboard attack verify`: the best-known figure, its attribution on page and API, and files that are refused."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup

from api.app import create_app
from api.settings import ApiSettings
from harness.attacks.examples import as_float
from harness.data import open_dataset
from tests.api.client import Client
from tests.cli.attack.support import LIMIT, MODEL, SHORT, save
from tests.cli.plugin import Cli
from tests.cli.support import dump, refused


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
