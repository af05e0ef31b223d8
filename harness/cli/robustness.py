"""`robustboard show MODEL --robustness`: threat models, unions and curves over eps as tables, JSON or a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.cli.output import emit, emit_json, emit_table

if TYPE_CHECKING:
    from harness.curves import GridValue
    from harness.robustness import BoardRobustness
    from harness.storage.queries import Reader


def show_robustness(store: Reader, name: str, write: Callable[[str], None] | None, *, as_json: bool) -> None:
    """Print what attacks say of a model, board by board.

    Args:
        store: where verdicts are.
        name: a registered model.
        write: takes the picture, where one is wanted.
        as_json: print plain data instead of tables.

    Raises:
        UnknownName: no such model, or no attack was run on it.
    """
    from harness.robustness import boards_to_dict, choose_boards, robustness
    from harness.robustness_plot import robustness_svg

    boards = choose_boards(robustness(store, name), name)
    if write is not None:
        write(robustness_svg(boards))
    if as_json:
        emit_json(boards_to_dict(name, boards))
        return
    for board in boards:
        _print_board(board)


def _print_board(board: BoardRobustness) -> None:
    from harness.robustness_plot import union_line
    from harness.spec import eps_text

    clean = f", clean {_percent(board.clean)[0]}" if board.clean else ""
    emit(f"{board.model}: {board.benchmark} on {board.dataset}{clean}; accuracy in %, intervals are 95 %")
    emit_table(
        ("norm", "eps", "attack", "robust", "95 %", "images"),
        [
            (
                item.norm,
                eps_text(item.eps),
                item.attack,
                *_percent(item.robust, item.bound),
                str(item.robust.n) if item.robust.n == item.images else f"{item.robust.n} of {item.images}",
            )
            for item in board.threats
        ],
        right=(1, 3, 4, 5),
    )
    for item in board.unions:
        emit(union_line(item))
    for curve in board.curves:
        emit(f"{curve.attack} in {curve.norm}, robust accuracy over eps, {curve.points[0][1].n:,} images")
        emit_table(
            ("eps", "robust", "95 %"),
            [
                (eps_text(eps) if eps else "0 (clean)", *_percent(value, curve.bound if eps else "exact"))
                for eps, value in curve.points
            ],
            right=(0, 1, 2),
        )


def _percent(value: GridValue, bound: str = "exact") -> tuple[str, str]:
    """(value, interval) in percent; an upper bound is led by "<="."""
    led = "<=" if bound == "upper" else ""
    return f"{led}{100 * value.value:.1f}", f"{100 * value.low:.1f} .. {100 * value.high:.1f}"
