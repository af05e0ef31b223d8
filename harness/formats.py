"""A board as text: JSON and CSV for machines, Markdown, LaTeX and a terminal table for people.

Machine formats keep every column and the full precision of every number (the shortest decimal that reads back as the
same float). People's formats show fractions in percent with one decimal and their 95 % interval, ranks as ranges, and
mark upper bounds and partial cells. Names come from strangers: each format escapes them in its own way.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

from harness.leaderboard import Board, Column
from harness.types import Cell, Json

Row: TypeAlias = Mapping[str, Cell]
State: TypeAlias = Literal["full", "partial", "missing"]

MISSING: Final = "-"
_COLUMN_FIELDS: Final = (
    "name",
    "title",
    "help",
    "kind",
    "higher_is_better",
    "norm",
    "eps",
    "attack",
    "images",
    "source",
)
_RANK_BOUNDS: Final = frozenset({"rank_low", "rank_high"})
_AFTER_SCORES: Final = ("status", "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table of plain text: what a terminal renderer needs. No markup, no control characters, nothing escaped."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]
    """Which columns hold numbers and are set flush right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCell:
    """One score of one row, with its companions.

    `value`, `low` and `high` keep the column's unit: fractions in 0..1, numbers as they are.
    """

    column: Column
    value: float | None
    low: float | None
    high: float | None
    images: int | None
    bound: str | None

    @property
    def state(self) -> State:
        """Missing (no image was evaluated), partial (fewer images than the column asks for) or full."""
        if self.column.images is not None and self.images is not None and 0 < self.images < self.column.images:
            return "partial"
        return "missing" if self.value is None else "full"

    @property
    def upper(self) -> bool:
        """True where the value is only an upper bound of the true one."""
        return self.bound == "upper" and self.value is not None

    def number(self, value: float | None) -> str:
        """A value of this column as a person reads it: percent with one decimal, or three decimals."""
        if value is None:
            return MISSING
        if self.column.kind == "fraction":
            return f"{100 * value:.1f}"
        if self.column.kind == "integer":
            return f"{value:.0f}"
        return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"

    @property
    def progress(self) -> str:
        """How far a partial cell has come: "24 of 32"."""
        return f"{self.images} of {self.column.images}"

    def text(self, *, intervals: bool = True, at_most: str = "<=") -> str:
        """The cell as text, such as "<=45.0 [41.2, 48.9]", "93.8 (24 of 32)" or "-"."""
        if self.state == "missing":
            return MISSING
        shown = (at_most if self.upper else "") + self.number(self.value)
        if self.state == "partial":
            return f"({self.progress})" if self.value is None else f"{shown} ({self.progress})"
        if intervals and self.low is not None and self.high is not None:
            return f"{shown} [{self.number(self.low)}, {self.number(self.high)}]"
        return shown


def score_cell(row: Row, column: Column) -> ScoreCell:
    """The score of `column` in `row` with its companions."""
    images, bound = row.get(f"{column.name}_n"), row.get(f"{column.name}_bound")
    return ScoreCell(
        column=column,
        value=_number(row.get(column.name)),
        low=_number(row.get(f"{column.name}_low")),
        high=_number(row.get(f"{column.name}_high")),
        images=images if isinstance(images, int) else None,
        bound=bound if isinstance(bound, str) else None,
    )


def rank_text(row: Row, *, dash: str = "-") -> str:
    """The rank as a person reads it: "2", "1-3" where models cannot be told apart, "-" where unranked."""
    low, high = row.get("rank_low"), row.get("rank_high")
    if row.get("rank") is None:
        return MISSING
    if low is None or high is None or low == high:
        return str(row["rank"])
    return f"{low}{dash}{high}"


def best_values(board: Board) -> dict[str, float]:
    """Column name -> its best value among full cells; exact values alone compete where there are any.

    Columns without a direction (`higher_is_better` is None) and columns without a full cell are left out.
    """
    best: dict[str, float] = {}
    for column in board.columns:
        if not column.score or column.higher_is_better is None:
            continue
        cells = [cell for row in board.rows if (cell := score_cell(row, column)).state == "full"]
        candidates = [cell for cell in cells if not cell.upper] or cells
        values = [cell.value for cell in candidates if cell.value is not None]
        if values:
            best[column.name] = max(values) if column.higher_is_better else min(values)
    return best


def field_names(board: Board) -> tuple[str, ...]:
    """The keys of every row in order: fixed columns, then each score column with its companions."""
    names: list[str] = []
    for column in board.columns:
        names.append(column.name)
        if column.score:
            names.extend(f"{column.name}_{companion}" for companion in ("low", "high", "n", "bound"))
    return tuple(names)


def envelope(board: Board) -> dict[str, Json]:
    """The one JSON envelope of a board, on the command line and over HTTP."""
    names = field_names(board)
    return {
        "benchmark": board.benchmark,
        "version": board.version,
        "columns": [column_fields(column) for column in board.columns],
        "total": board.total,
        "rows": [{name: row.get(name) for name in names} for row in board.rows],
    }


def column_fields(column: Column) -> dict[str, Json]:
    """What the JSON envelope says of a column."""
    fields = asdict(column)
    return {name: fields[name] for name in _COLUMN_FIELDS}


def to_json(board: Board) -> str:
    """The envelope as JSON text, one line a row, numbers in full precision.

    Raises:
        ValueError: a cell is NaN or infinite; missing values are null.
    """
    fields = envelope(board)
    rows = fields.pop("rows")
    head = ",\n".join(f"{_dump(name)}: {_dump(value)}" for name, value in fields.items())
    body = ",\n".join(f"  {_dump(row)}" for row in rows)
    return "{\n" + head + ',\n"rows": [' + (f"\n{body}\n" if rows else "") + "]\n}\n"


def to_csv(board: Board) -> str:
    r"""Every column as RFC 4180 text with \r\n line ends: missing is empty, floats are exact.

    Text that a spreadsheet would run as a formula (first character = + - @ tab or a line end) is led by an apostrophe.
    """
    names = field_names(board)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([_csv_cell(row.get(name)) for name in names] for row in board.rows)
    return out.getvalue()


def to_markdown(board: Board) -> str:
    """A GitHub-flavoured table with a title line; every name is escaped, so that no cell can make markup."""
    table = _people_table(board, board.columns, intervals=True)
    lines = [f"**{escape_markdown(clean(board.title))}** ({escape_markdown(_reference(board))})", ""]
    lines.append(_markdown_row(escape_markdown(header) for header in table.headers))
    lines.append(_markdown_row("---:" if right else ":---" for right in table.right))
    for row in table.rows:
        # Numbers are ours and hold nothing to escape but the sign of an upper bound; the source stays readable.
        cells = zip(row, table.right, strict=True)
        lines.append(
            _markdown_row(cell.replace("<", "&lt;") if right else escape_markdown(cell) for cell, right in cells)
        )
    return "\n".join(lines) + "\n"


def to_latex(board: Board) -> str:
    r"""A booktabs table with a caption; best values bold, intervals small, nothing that depends on the date.

    It needs `\usepackage{booktabs}` and, for names in other scripts, a Unicode engine.
    """
    columns = [column for column in board.columns if column.name != "architecture"]
    best = best_values(board) if board.total == len(board.rows) else {}
    table = _people_table(board, columns, intervals=True)
    spec = "".join("r" if right else "l" for right in table.right)
    title = f"{escape_latex(clean(board.title))} (\\texttt{{{escape_latex(_reference(board))}}})"
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{title}. Fractions in percent with 95\\,\\% intervals.}}",
        f"\\begin{{tabular}}{{{spec}}}",
        "\\toprule",
        "{}" + " & ".join(escape_latex(header) for header in table.headers) + " \\\\",
        "\\midrule",
    ]
    shown = _people_columns(columns)
    for row, texts in zip(board.rows, table.rows, strict=True):
        cells = [_latex_cell(row, column, text, best) for column, text in zip(shown, texts, strict=True)]
        # The empty group keeps a first cell that begins with "[" or "*" from being an option of the line before it.
        lines.append("{}" + " & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def to_rows(board: Board, *, intervals: bool = True) -> TextTable:
    """The board for a terminal: architecture is left out (names begin with it), the rest as people read it.

    Args:
        board: the board.
        intervals: show the 95 % interval beside each value.
    """
    columns = [column for column in board.columns if column.name != "architecture"]
    return _people_table(board, columns, intervals=intervals)


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: str) -> str:
    """Text without characters that steer a terminal, break a line or reorder what is read: each becomes U+FFFD."""
    return _CONTROL.sub("\ufffd", text)


# Punctuation that makes inline markup in CommonMark and GitHub's dialect (autolinks begin at a colon or at "www.").
_MARKDOWN_SPECIAL: Final = re.compile(r"[\\`*_\[\]#|~$!:@]|(?<=www)\.", re.IGNORECASE)


def escape_markdown(text: str) -> str:
    r"""Text that a Markdown renderer shows as it stands: punctuation behind a backslash, < > & as entities."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # No character of an entity is in the special set, so the second step leaves entities whole.
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", text)


_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
}
# The second part finds the first half of a ligature ("--", ",,", "''", "``", "?`", "!`"), which an empty group breaks.
_LATEX_SPECIAL: Final = re.compile(r"""[\\{}$&#%_^~<>|"]|([-,'`])(?=\1)|[?!](?=`)""")


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it stands: every special character is replaced, so no command can be smuggled in."""
    return _LATEX_SPECIAL.sub(lambda match: _LATEX.get(match[0], match[0] + "{}"), text)


def _number(value: Cell) -> float | None:
    """A numeric cell as a number; booleans and text are not numbers."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _csv_cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value
    return repr(value)


def _reference(board: Board) -> str:
    """Where the numbers come from: "digits@1 on digits"."""
    return clean(f"{board.benchmark}@{board.version} on {board.dataset}")


def _people_columns(columns: Iterable[Column]) -> list[Column]:
    """The columns people see, in order: names, scores, status, flags; rank bounds are part of the rank."""
    kept = [column for column in columns if column.name not in _RANK_BOUNDS]
    ordered = [column for column in kept if column.name not in _AFTER_SCORES]
    return ordered + [column for column in kept if column.name in _AFTER_SCORES]


def _people_table(board: Board, columns: Iterable[Column], *, intervals: bool) -> TextTable:
    shown = _people_columns(columns)
    return TextTable(
        headers=tuple(clean(header(column)) for column in shown),
        rows=tuple(tuple(_people_text(row, column, intervals=intervals) for column in shown) for row in board.rows),
        right=tuple(column.name == "rank" or column.kind not in {"text", "list"} for column in shown),
    )


def header(column: Column) -> str:
    """The column's title with its unit: "Clean accuracy (%)"."""
    return f"{column.title} (%)" if column.kind == "fraction" and "%" not in column.title else column.title


def _people_text(row: Row, column: Column, *, intervals: bool) -> str:
    if column.name == "rank":
        return rank_text(row)
    if column.score:
        return score_cell(row, column).text(intervals=intervals)
    value = row.get(column.name)
    if value is None:
        return MISSING
    return f"{value:,}" if column.kind == "integer" and isinstance(value, int) else clean(str(value))


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_cell(row: Row, column: Column, text: str, best: Mapping[str, float]) -> str:
    """One cell in LaTeX; `text` is what the plain table shows."""
    if column.name == "rank":
        return rank_text(row, dash="--")
    if not column.score:
        return escape_latex(text)
    cell = score_cell(row, column)
    if cell.state != "full":
        return cell.text(at_most="$\\leq$\\,")
    value = cell.number(cell.value)
    value = f"\\textbf{{{value}}}" if best.get(column.name) == cell.value else value
    value = f"$\\leq$\\,{value}" if cell.upper else value
    if cell.low is None or cell.high is None:
        return value
    return f"{value} {{\\small [{cell.number(cell.low)}, {cell.number(cell.high)}]}}"
