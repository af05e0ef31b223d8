"""`robustboard leaderboard --plot`: the file that is written, and requests that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.leaderboard import BoardQuery, load_board
from harness.scatter import scatter
from harness.scatter_plot import scatter_svg
from harness.storage import open_store
from tests.cli.plugin import Cli


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store without models."""
    path = tmp_path / "made.db"
    open_store(str(path)).close()
    return str(path)


def test_picture_is_that_of_the_board(cli: Cli, db: str, tmp_path: Path) -> None:
    """The file holds the picture of the same board and columns; standard output stays the board."""
    answer = cli(
        "leaderboard", "-b", "selectivity", "--plot", "out.svg", "--y", "pgd_accuracy_linf_2_255", "--json", "--db", db
    )
    assert answer.code == 0, answer.err
    assert '"benchmark": "selectivity"' in answer.out
    store = open_store(db, read_only=True)
    found = scatter(load_board(store, BoardQuery(benchmark="selectivity")), y="pgd_accuracy_linf_2_255")
    store.close()
    assert (tmp_path / "out.svg").read_text("utf-8") == scatter_svg(found) + "\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--x", "clean_accuracy"), "x: got 'clean_accuracy', expected used with --plot FILE.svg"),
        (("--plot", "out.png"), "plot: got 'out.png', expected a file name that ends in .svg"),
        (("--plot", "out.svg", "--x", "clean_acuracy"), "did you mean 'clean_accuracy'?"),
        (("--plot", "out.svg", "--colour", "rank"), "score column for colour"),
    ],
)
def test_refused(cli: Cli, db: str, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    """One line, exit 2, no file, and nothing on standard output."""
    answer = cli("leaderboard", "-b", "digits", *arguments, "--db", db)
    assert answer.code == 2
    assert says in answer.err
    assert not answer.out
    assert [path.name for path in tmp_path.iterdir() if path.suffix in {".svg", ".png"}] == []
