"""The study of class selectivity: does it bear on robustness as Leavitt and Morcos found (arXiv 2010.07693)?"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.scatter import scatter
from harness.scatter_plot import scatter_svg
from harness.storage.queries import Reader
from models_zoo.studies.base import Report, Study
from models_zoo.studies.claims import claims, examine, reverse_claims
from models_zoo.studies.selectivity_report import markdown
from models_zoo.studies.subjects import read_subjects
from models_zoo.studies.sweep_plot import sweep_svg

BENCHMARK: Final = "selectivity@1"
RECIPES: Final = ("supervised", "selectivity", "adversarial", "augmix")


def write(store: Reader, dataset: str, stem: str | None) -> Report:
    """The report of what a store holds.

    Args:
        store: with the benchmark's results.
        dataset: the board's.
        stem: of the pictures' file names, `STEM-sweep.svg` and `STEM-question.svg`; None for a report without pictures.

    Raises:
        UnknownName: no board of this data set.
        RequestError: fewer than three settings of alpha on it.
    """
    subjects = read_subjects(store, BENCHMARK, dataset, RECIPES)
    tested = tuple(examine(claim, subjects) for claim in claims())
    pictures: dict[str, str] = {}
    if stem is not None:
        taking_part = {item.name for item in (*subjects.sweep, *subjects.others)}
        pictures[f"{stem}-sweep.svg"] = sweep_svg(subjects)
        board = replace(subjects.board, rows=tuple(row for row in subjects.board.rows if row["model"] in taking_part))
        pictures[f"{stem}-question.svg"] = scatter_svg(scatter(board))
    text = markdown(subjects, tested, reverse_claims(subjects), tuple(pictures))
    return Report(markdown=text, pictures=pictures)


SELECTIVITY: Final = Study(
    name="selectivity",
    title="Class selectivity and robustness",
    description="a sweep over the selectivity regulariser, adversarially trained and AugMix models: are less selective "
    "networks better under corruptions and more selective ones better under attack, and do dimensionality and the "
    "variability of gradients go along?",
    citation="Leavitt and Morcos, Linking average- and worst-case perturbation robustness via class selectivity and "
    "dimensionality, arXiv 2010.07693",
    benchmark=BENCHMARK,
    dataset="digits",
    recipes=RECIPES,
    architectures={"digits": "small_cnn", "cifar10-jpeg": "resnet20"},
    write=write,
)
