"""Reading commands: `leaderboard`, `compare` and `show`."""

from __future__ import annotations

import enum
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DbOption, JsonOption
from harness.cli.output import console, emit, emit_json, emit_table, say
from harness.errors import InvalidArgument

if TYPE_CHECKING:
    from harness.curves import CorruptionGrid
    from harness.leaderboard import Board
    from harness.storage.queries import Reader
    from harness.storage.records import StoredEvaluation
    from harness.types import Cell


class Format(enum.StrEnum):
    """How a board is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"


class Order(enum.StrEnum):
    """Direction of sorting."""

    ASC = "asc"
    DESC = "desc"


def leaderboard(
    benchmark: Annotated[
        str, typer.Option("--benchmark", "-b", help="NAME (newest version) or NAME@VERSION.")
    ] = "digits",
    dataset: Annotated[str | None, typer.Option("--dataset", help="The board of another data set.")] = None,
    family: Annotated[str | None, typer.Option("--family", help="Only models of this family.")] = None,
    sort: Annotated[str | None, typer.Option("--sort", help="Column to sort by [the ranking one].")] = None,
    order: Annotated[Order | None, typer.Option("--order", help="Direction [better values first].")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most N rows.")] = None,
    offset: Annotated[int, typer.Option("--offset", help="Leave out the first N rows.")] = 0,
    stale: Annotated[
        bool, typer.Option("--stale", help="Also show cells of outdated component versions; they never rank.")
    ] = False,
    output: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = Format.TABLE,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also write it to FILE.svg: one score against another, a dot a model.")
    ] = None,
    x: Annotated[str | None, typer.Option("--x", help="Plot: column across [corruption_accuracy].")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Plot: column upwards [robust_accuracy_linf, else PGD].")] = None,
    colour: Annotated[str | None, typer.Option("--colour", help="Plot: column as colour [selectivity].")] = None,
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Print a board: scores with 95 % intervals, ranks as ranges where models tie.

    Examples:
        robustboard leaderboard --benchmark digits

        robustboard leaderboard -b digits --sort robust_accuracy_linf --format latex > board.tex

        robustboard leaderboard -b digits --plot question.svg --x corruption_accuracy --y pgd_accuracy_linf
    """
    from harness.leaderboard import BoardQuery, load_board
    from harness.storage import open_store

    axes = {"x": x, "y": y, "colour": colour}
    if plot is not None:
        _check_plot(plot)
    elif given := [name for name, column in axes.items() if column is not None]:
        raise InvalidArgument(given[0], axes[given[0]], "used with --plot FILE.svg")
    query = BoardQuery(
        benchmark=benchmark,
        dataset=dataset,
        family=family,
        sort=sort,
        order=order.value if order is not None else None,
        limit=limit,
        offset=offset,
        stale=stale,
    )
    store = open_store(db, read_only=True)
    try:
        board = load_board(store, query)
    finally:
        store.close()
    if plot is not None:
        from harness.scatter import scatter
        from harness.scatter_plot import scatter_svg

        _write_plot(plot, scatter_svg(scatter(board, **axes)))
    _print_board(board, Format.JSON if as_json else output)


def _print_board(board: Board, output: Format) -> None:
    from harness import formats

    match output:
        case Format.JSON:
            emit(formats.to_json(board))
        case Format.CSV:
            emit(formats.to_csv(board))
        case Format.MARKDOWN:
            emit(formats.to_markdown(board))
        case Format.LATEX:
            emit(formats.to_latex(board))
        case Format.TABLE:
            _print_table(board)
    if not board.rows:
        say(f"no rows; `robustboard run --benchmark {board.benchmark} --models ...` makes some")


def print_board(store: Reader, benchmark: str) -> None:
    """The whole board as a table."""
    from harness.leaderboard import BoardQuery, load_board

    _print_table(load_board(store, BoardQuery(benchmark=benchmark)))


def _print_table(board: Board) -> None:
    from harness.formats import to_rows

    table = to_rows(board)
    out = console()
    widths = [max(map(len, column)) + 3 for column in zip(table.headers, *table.rows, strict=True)]
    if out.is_terminal and sum(widths) > out.width:
        table = to_rows(board, intervals=False)
        say("the intervals need a wider window; --format csv or markdown has them")
    own = f" on {board.dataset}"
    emit(f"{board.title} ({board.benchmark}@{board.version}{own}), ranked by {board.ranked_by}; intervals are 95 %")
    emit_table(table.headers, table.rows, right=[at for at, right in enumerate(table.right) if right])


def compare(
    first: Annotated[str, typer.Argument(help="A model on the board.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="NAME or NAME@VERSION.")] = "digits",
    dataset: Annotated[str | None, typer.Option("--dataset", help="The board of another data set.")] = None,
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Compare two models on the images they share: difference with its paired 95 % interval.

    Example:
        robustboard compare small_cnn.supervised.digits.s0 resnet20.supervised.digits.s0
    """
    from harness.comparison import compare_models
    from harness.storage import open_store

    store = open_store(db, read_only=True)
    try:
        found = compare_models(store, first, second, benchmark=benchmark, dataset=dataset)
    finally:
        store.close()
    if as_json:
        emit_json([item.to_dict() for item in found])
        return
    rows = [
        (
            item.column,
            f"{item.first:.4f}",
            f"{item.second:.4f}",
            f"{item.difference:+.4f}",
            f"{item.low:+.4f} .. {item.high:+.4f}",
            str(item.n),
            "yes" if item.significant else "no",
        )
        for item in found
    ]
    header = ("column", first, second, "second - first", "95 %", "images", "differs")
    emit_table(header, rows, right=(1, 2, 3, 4, 5))


def show(
    what: Annotated[str, typer.Argument(help="A model's name, or the first digits of an evaluation's digest.")],
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="A model's accuracy by corruption and severity, with all means.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="A model under attack: threat models, unions, curves over eps.")
    ] = False,
    measures: Annotated[
        bool, typer.Option("--measures", help="A model's representation: what was measured, layer by layer.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Also write it to FILE.svg: heat map and curves [of corruptions, unless told]."),
    ] = None,
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Show a model with its scores and evaluations, or one evaluation with its provenance.

    Examples:
        robustboard show small_cnn.supervised.digits.s0

        robustboard show small_cnn.supervised.digits.s0 --corruptions --plot corruptions.svg

        robustboard show small_cnn.supervised.digits.s0 --robustness --plot robustness.svg

        robustboard show small_cnn.supervised.digits.s0 --measures --plot measures.svg

        robustboard show 3c606073f4ad --json
    """
    if plot is not None:
        _check_plot(plot)
    asked = {"--corruptions": corruptions, "--robustness": robustness, "--measures": measures}
    if sum(asked.values()) > 1:
        given = " ".join(name for name, wanted in asked.items() if wanted)
        raise InvalidArgument("show", given, "one of them at a time")
    from harness.storage import open_store

    store = open_store(db, read_only=True)
    try:
        write = None if plot is None else functools.partial(_write_plot, plot)
        if robustness:
            from harness.cli.robustness import show_robustness

            show_robustness(store, what, write, as_json=as_json)
        elif measures:
            from harness.cli.measures import show_measures

            show_measures(store, what, write, as_json=as_json)
        elif corruptions or plot is not None:
            _show_corruptions(store, what, plot, as_json=as_json)
        elif store.find_model(what) is not None:
            _show_model(store, what, as_json=as_json)
        else:
            _show_evaluation(store, what)
    finally:
        store.close()


def _show_model(store: Reader, name: str, *, as_json: bool) -> None:
    import dataclasses

    from harness.catalogue import model_detail
    from harness.cli.verify import emit_best_known

    detail = model_detail(store, name)
    if as_json:
        emit_json(dataclasses.asdict(detail))
        return
    summary = detail.summary
    emit(f"{summary.name}  ({summary.architecture}, {summary.family}, {summary.parameters:,} parameters)")
    emit(f"digest {summary.digest}, revision {summary.revision}")
    for flag, evidence in detail.flags.items():
        emit(f"flag {flag}: {evidence}")
    emit_table(
        ("board", "column", "value", "95 %", "images", "rank"),
        [
            (
                f"{row['benchmark']}@{row['version']}:{row['dataset']}",
                str(row["column"]) + (" (stale)" if row["stale"] else ""),
                _number(row["value"]),
                "" if row["low"] is None else f"{_number(row['low'])} .. {_number(row['high'])}",
                f"{row['n']} of {row['images']}",
                "" if row["rank"] is None else f"{row['rank']} ({row['rank_low']}-{row['rank_high']})",
            )
            for row in detail.scores
        ],
        right=(2, 3, 4, 5),
    )
    emit_best_known(detail.best_known)
    emit_table(
        ("evaluation", "perturbation", "accuracy", "images", "seconds", "status"),
        [
            (
                str(row["digest"])[:12],
                str(row["label"]),
                _number(row["accuracy"]),
                str(row["n"]),
                _number(row["seconds"]),
                f"{row['status']}: {str(row['error']).splitlines()[0]}" if row["error"] else str(row["status"]),
            )
            for row in detail.evaluations
        ],
        right=(2, 3, 4),
    )


def _check_plot(plot: Path) -> None:
    if plot.suffix.lower() != ".svg" or plot.is_dir() or not plot.parent.is_dir():
        raise InvalidArgument("plot", str(plot), "a file name that ends in .svg, in a folder that exists")


def _show_corruptions(store: Reader, name: str, plot: Path | None, *, as_json: bool) -> None:
    from harness.curves import choose_grids, corruption_curves, grids_to_dict

    grids = choose_grids(corruption_curves(store, name), name)
    if plot is not None:
        from harness.plots import corruptions_svg

        _write_plot(plot, corruptions_svg(grids))
    if as_json:
        emit_json(grids_to_dict(name, grids))
        return
    for grid in grids:
        _print_grid(grid)


def _write_plot(plot: Path, picture: str) -> None:
    try:
        plot.write_text(picture + "\n", "utf-8")
    except OSError as error:
        raise InvalidArgument("plot", str(plot), f"a file that can be written ({error.strerror})") from error
    say(f"wrote {plot}")


def _print_grid(grid: CorruptionGrid) -> None:
    from harness.plots import subtitle

    emit(f"{grid.model}: {subtitle(grid)}; accuracy in %, intervals are 95 %")
    rows: list[tuple[str, ...]] = []
    for family, names in {**grid.families, "(in no mean)": grid.extras_shown}.items():
        for name in names:
            cells = [_percent(cell.value if cell else None) for cell in grid.cells[name]]
            rows.append((family, name, *cells, _percent(grid.means[name])))
    for family, value in grid.family_values.items():
        shown = f"{_percent(value.value)} [{_percent(value.low)}, {_percent(value.high)}]" if value else "-"
        rows.append((family, "mean", *[""] * 5, shown))
    whole = grid.overall
    shown = f"{_percent(whole.value)} [{_percent(whole.low)}, {_percent(whole.high)}]" if whole else "-"
    rows.append(("all families", "mean", *map(_percent, grid.severity_means), shown))
    emit_table(("family", "corruption", *"12345", "mean"), rows, right=range(2, 8))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _show_evaluation(store: Reader, prefix: str) -> None:
    import dataclasses

    emit_json(dataclasses.asdict(find_evaluation(store, prefix)))


def find_evaluation(store: Reader, prefix: str) -> StoredEvaluation:
    """The one evaluation whose digest begins with these digits.

    Raises:
        UnknownName: none does.
        InvalidArgument: several do.
    """
    from harness.errors import UnknownName

    digits = set("0123456789abcdef")
    found = store.evaluations(prefix=prefix) if len(prefix) >= 6 and set(prefix) <= digits else ()
    if not found:
        raise UnknownName("model or evaluation", prefix, [model.name for model in store.models()])
    if len(found) > 1:
        raise InvalidArgument("evaluation", prefix, f"more digits: {len(found)} evaluations begin with these")
    return found[0]


def _number(value: Cell) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
