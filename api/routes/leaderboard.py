"""Boards: the page at /, and the same board as JSON, CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api import pages, view
from api.deps import ERRORS, Source
from api.render import JSON, alternates, html, respond, root
from api.schemas import MAX_LIMIT, BoardParams, Envelope, PageParams, PlotParams
from harness.formats import to_csv, to_json, to_latex, to_markdown
from harness.leaderboard import Board
from harness.scatter import scatter
from harness.scatter_plot import scatter_svg

router: Final = APIRouter()
_WRITERS: Final[dict[str, Callable[[Board], str]]] = {
    "": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
    ".tex": to_latex,
}
_PATH: Final = "/api/v1/leaderboard"


def _answer(request: Request, source: Source, params: BoardParams, suffix: str) -> Response:
    board = pages.board(source, params, default_limit=MAX_LIMIT)
    links = pages.board_links(root(request), params, params.benchmark)
    others = {pages.MEDIA[other].split(";")[0]: href for other, href in links.items() if other != suffix}
    headers = alternates(others)
    if suffix:
        headers["Content-Disposition"] = f'inline; filename="{pages.filename(board, suffix)}"'
    return respond(request, _WRITERS[suffix](board), pages.MEDIA[suffix], headers)


@router.get(_PATH, response_model=Envelope, responses=ERRORS, tags=["boards"])
def leaderboard(request: Request, source: Source, params: Annotated[BoardParams, Query()]) -> Response:
    """A board: its columns, and one row a model."""
    return _answer(request, source, params, "")


@router.get(_PATH + ".csv", response_class=Response, responses=ERRORS, tags=["boards"])
def leaderboard_csv(request: Request, source: Source, params: Annotated[BoardParams, Query()]) -> Response:
    """The same board as CSV (RFC 4180), every column, full precision."""
    return _answer(request, source, params, ".csv")


@router.get(_PATH + ".md", response_class=Response, responses=ERRORS, tags=["boards"])
def leaderboard_markdown(request: Request, source: Source, params: Annotated[BoardParams, Query()]) -> Response:
    """The same board as a Markdown table for people."""
    return _answer(request, source, params, ".md")


@router.get(_PATH + ".tex", response_class=Response, responses=ERRORS, tags=["boards"])
def leaderboard_latex(request: Request, source: Source, params: Annotated[BoardParams, Query()]) -> Response:
    """The same board as a LaTeX table (booktabs)."""
    return _answer(request, source, params, ".tex")


@router.get(_PATH + ".svg", response_class=Response, responses=ERRORS, tags=["boards"])
def leaderboard_picture(request: Request, source: Source, params: Annotated[PlotParams, Query()]) -> Response:
    """One score against another, a dot a model, coloured by a third: the average case against the worst."""
    board = pages.picture_board(source, params)
    picture = scatter_svg(scatter(board, x=params.x, y=params.y, colour=params.colour))
    headers = alternates({JSON: pages.board_links(root(request), params, params.benchmark)[""]})
    headers["Content-Disposition"] = f'inline; filename="{pages.filename(board, ".svg")}"'
    return respond(request, picture, "image/svg+xml", headers)


@router.get("/", include_in_schema=False)
def board_page(request: Request, source: Source, params: Annotated[PageParams, Query()]) -> Response:
    """The board as a page."""
    page = pages.board_page(source, params)
    if isinstance(page, pages.EmptyPage):
        return respond(request, html(request, "empty.html"), "text/html")
    links = pages.board_links(root(request), page.params, page.params.benchmark or "")
    body = html(
        request,
        "board.html",
        page=page,
        board=page.board,
        heads=view.heads(page),
        rows=view.rows(page, root(request)),
        downloads={pages.DOWNLOADS[suffix]: href for suffix, href in links.items()},
        family_hue=view.family_hue,
        raw=view.raw,
        question=None if page.question is None else scatter_svg(page.question, paper=False),
        question_href=pages.question_href(root(request), page.params, page.params.benchmark or ""),
    )
    others = {pages.MEDIA[suffix].split(";")[0]: href for suffix, href in links.items()}
    return respond(request, body, "text/html", alternates(others))
