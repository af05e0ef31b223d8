"""One model under attack: threat models, unions and curves over eps, as JSON and as a picture."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api import pages
from api.deps import ERRORS, NoParams, Source
from api.render import JSON, alternates, respond, respond_json, root
from api.schemas import RobustnessModel, RobustnessParams
from harness.robustness import boards_to_dict, choose_boards
from harness.robustness_plot import robustness_svg

router: Final = APIRouter()
SVG: Final = "image/svg+xml"


# Included before the routes of a model, whose name would swallow the rest of the path.
@router.get("/api/v1/models/{name:path}/robustness", response_model=RobustnessModel, responses=ERRORS, tags=["models"])
def robustness(request: Request, source: Source, name: str, _params: NoParams) -> Response:
    """One model under attack, board by board; none if it was never attacked."""
    href = f"{pages.model_href(f'{root(request)}/api/v1', name)}/robustness.svg"
    return respond_json(request, boards_to_dict(name, source.robustness(name)), alternates({SVG: href}))


@router.get("/api/v1/models/{name:path}/robustness.svg", response_class=Response, responses=ERRORS, tags=["models"])
def robustness_picture(
    request: Request, source: Source, name: str, params: Annotated[RobustnessParams, Query()]
) -> Response:
    """The same as a picture: robust accuracy over eps, one panel a norm."""
    boards = choose_boards(source.robustness(name), name, benchmark=params.benchmark, dataset=params.dataset)
    href = f"{pages.model_href(f'{root(request)}/api/v1', name)}/robustness"
    return respond(request, robustness_svg(boards), SVG, alternates({JSON: href}))
