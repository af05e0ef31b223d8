"""A source of boards that is held in memory: what the store would give, known to the last digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.catalogue import BenchmarkSummary, ModelDetail, ModelSummary
from harness.corruptions.suites import BENCHMARK, EXTRA, FAMILIES
from harness.curves import CorruptionGrid, GridValue
from harness.errors import RobustboardError, UnknownName
from harness.leaderboard import Board, BoardQuery, Column, sort_rows
from harness.measure_view import MeasureTable
from harness.robustness import BoardRobustness
from harness.types import Cell
from tests.api.attacks import attacked, plain
from tests.api.measured import measured

HOSTILE = "ev|il_<script>alert(1)</script>&\"'=1+1\\input{x}`$%#~^[a](javascript:b)*c*.digits"
"""A model's name that attacks HTML, attributes, Markdown and LaTeX at once."""
FORMULA = '=HYPERLINK("http://example.org/"&A1)'
"""A model's name that a spreadsheet would run."""

FIXED = (
    Column(name="rank", title="Rank", help="Place by the ranking column.", kind="integer"),
    Column(name="rank_low", title="Rank, best", help="1 + models significantly better.", kind="integer"),
    Column(name="rank_high", title="Rank, worst", help="Models minus those significantly worse.", kind="integer"),
    Column(name="model", title="Model", help="The model's name.", kind="text"),
    Column(name="family", title="Family", help="How the model was trained.", kind="text"),
    Column(name="architecture", title="Architecture", help="The network.", kind="text"),
    Column(name="parameters", title="Parameters", help="Trainable numbers.", kind="integer"),
    Column(name="status", title="Status", help="Computed here, or published elsewhere.", kind="text"),
    Column(name="flags", title="Flags", help="What to know before trusting the row.", kind="text"),
)


def accuracy(name: str, title: str, images: int, *, norm: str | None = None, eps: str | None = None) -> Column:
    """A fraction column where higher is better."""
    attack = "AutoAttack" if name.startswith("robust") else "PGD-20" if norm else None
    return Column(
        name=name,
        title=title,
        help=f"{title} on the test images.",
        kind="fraction",
        score=True,
        higher_is_better=True,
        norm=norm,
        eps=eps,
        attack=attack,
        images=images,
    )


COLUMNS = (
    *FIXED,
    accuracy("clean_accuracy", "Clean accuracy", 500),
    accuracy("corruption_accuracy", "Corruption accuracy", 500),
    accuracy("pgd_accuracy_linf", "PGD-20 accuracy", 500, norm="Linf", eps="4/255"),
    accuracy("robust_accuracy_linf", "Robust accuracy", 32, norm="Linf", eps="4/255"),
    Column(
        name="selectivity",
        title="Class selectivity",
        help="Mean class selectivity index of the hidden units.",
        kind="number",
        score=True,
        images=500,
    ),
)

Score = tuple[float | None, float | None, float | None, int | None, str | None]


def row(fixed: tuple[Cell, ...], scores: tuple[Score, ...]) -> dict[str, Cell]:
    """A row from the fixed cells and, for each score column, (value, low, high, n, bound)."""
    cells: dict[str, Cell] = dict(zip((column.name for column in FIXED), fixed, strict=True))
    for column, (value, low, high, n, bound) in zip(COLUMNS[len(FIXED) :], scores, strict=True):
        parts = {"_low": low, "_high": high, "_n": n, "_bound": bound}
        cells |= {column.name: value} | {f"{column.name}{part}": cell for part, cell in parts.items()}
    return cells


NONE: Score = (None, None, None, None, None)
ROWS: tuple[dict[str, Cell], ...] = (
    row(
        (1, 1, 1, "small_cnn.adversarial.digits", "adversarial", "small_cnn", 60762, "verified", ""),
        (
            (0.958, 0.9366, 0.9723, 500, "exact"),
            (0.7812266666666667, 0.7625, 0.7991, 500, "exact"),
            (0.828, 0.7925, 0.8585, 500, "upper"),
            (0.8125, 0.6469, 0.9111, 32, "exact"),
            (0.35117, 0.34, 0.36, 500, "exact"),
        ),
    ),
    row(
        (2, 2, 4, "small_cnn.selectivity-am2.digits", "selectivity", "small_cnn", 60762, "verified", ""),
        (
            (0.976, 0.9585, 0.9862, 500, "exact"),
            (0.7233333333333334, 0.703, 0.743, 500, "exact"),
            (0.306, 0.2671, 0.3477, 500, "upper"),
            (0.28125, 0.1556, 0.4537, 32, "exact"),
            (0.1829, 0.175, 0.191, 500, "exact"),
        ),
    ),
    row(
        (3, 2, 4, "small_cnn.supervised.digits", "supervised", "small_cnn", 60762, "verified", "near_zero_gradients"),
        (
            (0.984, 0.9688, 0.9919, 500, "exact"),
            (0.7044, 0.6838, 0.7249, 500, "exact"),
            (0.248, 0.2122, 0.2877, 500, "upper"),
            (0.21875, 0.1102, 0.3876, 32, "exact"),
            (0.4437, 0.43, 0.457, 500, "exact"),
        ),
    ),
    row(
        (4, 2, 5, "resnet20.supervised.digits", "supervised", "resnet20", 272474, "verified", ""),
        (
            (0.986, 0.9713, 0.9932, 500, "exact"),
            (0.6911, 0.67, 0.712, 500, "exact"),
            (0.19, 0.158, 0.2267, 500, "upper"),
            (0.125, 0.0497, 0.2807, 32, "upper"),
            (0.5203, 0.507, 0.533, 500, "exact"),
        ),
    ),
    row(
        (5, 4, 5, HOSTILE, "selectivity", "small_cnn", 60762, "reported", "masked_gradients low_budget"),
        (
            (0.94, 0.9157, 0.9576, 500, "exact"),
            (0.58, 0.56, 0.6, 500, "exact"),
            (0.1, 0.0767, 0.1294, 500, "upper"),
            (0.0, 0.0, 0.1072, 32, "exact"),
            (0.71, 0.7, 0.72, 500, "exact"),
        ),
    ),
    row(
        (None, None, None, FORMULA, "contrastive", "small_cnn", None, "verified", ""),
        (
            (0.97, 0.9511, 0.9817, 500, "exact"),
            (0.6, None, None, 200, "exact"),
            NONE,
            (0.25, 0.11, 0.47, 20, "upper"),
            NONE,
        ),
    ),
)
BOARD = Board(
    benchmark="digits",
    version=1,
    dataset="digits",
    title="Handwritten digits",
    description="500 handwritten digits, 15 corruptions at 5 severities, PGD-20 and AutoAttack in the Linf ball.",
    ranked_by="robust_accuracy_linf",
    columns=COLUMNS,
    total=len(ROWS),
    rows=ROWS,
    sort="robust_accuracy_linf",
    order="desc",
    families=("adversarial", "contrastive", "selectivity", "supervised"),
)
EMPTY = replace(
    BOARD, benchmark="cifar10", dataset="cifar10", title="CIFAR-10 photographs", rows=(), total=0, families=()
)


GRIDLESS = "resnet20.supervised.digits"
"""A model that was never corrupted and never attacked."""


def corruption_grid(model: str, suite: str = "imagecorruptions", dataset: str = "digits") -> CorruptionGrid:
    """A whole grid of made-up accuracies; each differs from its neighbours, and means are what they are named."""

    def value(share: float) -> GridValue:
        return GridValue(value=share, low=max(0.0, share - 0.04), high=min(1.0, share + 0.04), n=500)

    names = BENCHMARK + EXTRA
    shares = {
        (name, severity): (97 - 3.1 * at - severity * (1 + at % 7)) / 100
        for at, name in enumerate(names)
        for severity in range(1, 6)
    }

    def mean(chosen: Sequence[str], severities: Sequence[int] = range(1, 6)) -> float:
        return sum(shares[name, severity] for name in chosen for severity in severities) / len(chosen) / len(severities)

    return CorruptionGrid(
        model=model,
        suite=suite,
        component="imagecorruptions-1.1.2",
        versions=("imagecorruptions-1.1.2/1",),
        current=True,
        seed=0,
        dataset=dataset,
        split="test",
        dataset_digest="d" * 64,
        images=500,
        dataset_images=500,
        families={str(family): members for family, members in FAMILIES.items()},
        extra=EXTRA,
        clean=value(0.984),
        cells={name: tuple(value(shares[name, severity]) for severity in range(1, 6)) for name in names},
        means={name: mean([name]) for name in names},
        severity_means=tuple(mean(BENCHMARK, [severity]) for severity in range(1, 6)),
        family_values={family: value(mean(members)) for family, members in FAMILIES.items()},
        overall=value(mean(BENCHMARK)),
    )


@dataclass
class FakeSource:
    """A `BoardSource` over the boards above; `failure` makes every call raise it."""

    boards: Mapping[str, Board] = field(default_factory=lambda: {"digits": BOARD, "cifar10": EMPTY})
    failure: Exception | None = None

    def ready(self) -> None:
        """Raise if told so."""
        if self.failure is not None:
            raise self.failure

    def load_board(self, query: BoardQuery) -> Board:
        """A board sorted, filtered and cut as the query says."""
        self.ready()
        board = self.boards.get(query.benchmark.removesuffix("@1"))
        if board is None:
            raise UnknownName("benchmark", query.benchmark, self.boards)
        names = [column.name for column in board.columns]
        sort = query.sort or board.sort
        if sort not in names:
            raise UnknownName("column", sort, names)
        if query.family is not None and query.family not in board.families:
            raise UnknownName("family", query.family, board.families)
        column = board.columns[names.index(sort)]
        order = query.order or ("desc" if column.score else "asc")
        rows = [row for row in board.rows if query.family in (None, row["family"])]
        rows = sort_rows(rows, sort, order)
        end = None if query.limit is None else query.offset + query.limit
        return replace(board, rows=tuple(rows[query.offset : end]), total=len(rows), sort=sort, order=order)

    def list_benchmarks(self) -> tuple[BenchmarkSummary, ...]:
        """One summary a board."""
        self.ready()
        return tuple(
            BenchmarkSummary(
                name=name,
                version=board.version,
                title=board.title,
                description=board.description,
                dataset=board.dataset,
                datasets=(board.dataset,) if board.total else (),
                models=board.total,
                ranked_by=board.ranked_by,
                columns=tuple(column.name for column in board.columns if column.score),
            )
            for name, board in self.boards.items()
        )

    def list_models(self) -> tuple[ModelSummary, ...]:
        """The models of the rows."""
        self.ready()
        return tuple(
            ModelSummary(
                name=str(row["model"]),
                family=str(row["family"]),
                architecture=str(row["architecture"]),
                dataset="digits",
                parameters=row["parameters"] if isinstance(row["parameters"], int) else 0,
                digest=f"{index:x}" * 64,
                status=str(row["status"]),
                revision=1,
            )
            for index, row in enumerate(ROWS)
        )

    def model_detail(self, name: str) -> ModelDetail:
        """Scores from the model's row, one evaluation, a card with a nested table and two addresses."""
        summaries = {summary.name: summary for summary in self.list_models()}
        if name not in summaries:
            raise UnknownName("model", name, summaries)
        cells = next(row for row in ROWS if row["model"] == name)
        scores = tuple(
            {
                "benchmark": "digits",
                "version": 1,
                "dataset": "digits",
                "column": column.name,
                "value": cells[column.name],
                "low": cells[f"{column.name}_low"],
                "high": cells[f"{column.name}_high"],
                "n": cells[f"{column.name}_n"],
                "images": column.images,
                "bound": cells[f"{column.name}_bound"],
                "rank": None,
                "rank_low": None,
                "rank_high": None,
                "stale": False,
            }
            for column in COLUMNS
            if column.score and cells[column.name] is not None
        )
        evaluation: dict[str, Cell] = {
            "digest": "ab" * 32,
            "label": "gaussian_noise, severity 3",
            "kind": "corruption",
            "forwards": 500,
            "backwards": 0,
            "status": "ok",
            "error": None,
            "dataset": "digits",
            "n": 500,
            "n_planned": 500,
            "accuracy": 0.834,
            "executed_at": "2025-01-02T03:04:05Z",
            "seconds": 1.25,
        }
        attack = {**evaluation, "digest": "cd" * 32, "label": "autoattack Linf 4/255", "n": 32, "backwards": 9100}
        card = {
            "name": name,
            "licence": "Apache-2.0",
            "mean": [0.5, 0.5, 0.5],
            "recipe": {"name": "selectivity", "alpha": -2.0, "note": "<b>bold</b>"},
            "source": "https://example.org/paper",
            "script": "javascript:alert(1)",
        }
        flags = dict.fromkeys(str(cells["flags"]).split(), "clean accuracy <b>rises</b> under the attack")
        return ModelDetail(
            summary=summaries[name], card=card, scores=scores, evaluations=(evaluation, attack), flags=flags
        )

    def corruption_curves(self, name: str) -> tuple[CorruptionGrid, ...]:
        """Two grids, none for `GRIDLESS`."""
        self.ready()
        names = [summary.name for summary in self.list_models()]
        if name not in names:
            raise UnknownName("model", name, names)
        if name == GRIDLESS:
            return ()
        return corruption_grid(name), corruption_grid(name, "cifar-10-c@any", HOSTILE)

    def robustness(self, name: str) -> tuple[BoardRobustness, ...]:
        """Two boards, none for `GRIDLESS`."""
        self.ready()
        names = [summary.name for summary in self.list_models()]
        if name not in names:
            raise UnknownName("model", name, names)
        return () if name == GRIDLESS else (attacked(name), plain(name, HOSTILE))

    def measures(self, name: str) -> tuple[MeasureTable, ...]:
        """Tables of layers and of logits, none for `GRIDLESS`."""
        self.ready()
        names = [summary.name for summary in self.list_models()]
        if name not in names:
            raise UnknownName("model", name, names)
        return () if name == GRIDLESS else measured(name)


def failing(error: RobustboardError | Exception) -> FakeSource:
    """A source whose every call fails."""
    return FakeSource(failure=error)
