"""What was measured of one model, layer by layer, as JSON and as a picture."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import pages
from api.deps import ERRORS, NoParams, Source
from api.render import JSON, alternates, respond, respond_json, root
from api.schemas import MeasuresModel
from harness.measure_plot import measures_svg
from harness.measure_view import choose_tables, tables_to_dict

router: Final = APIRouter()
SVG: Final = "image/svg+xml"


# Included before the routes of a model, whose name would swallow the rest of the path.
@router.get("/api/v1/models/{name:path}/measures", response_model=MeasuresModel, responses=ERRORS, tags=["models"])
def measures(request: Request, source: Source, name: str, _params: NoParams) -> Response:
    """One model's representation, measure by measure and layer by layer; none if nothing was measured."""
    href = f"{pages.model_href(f'{root(request)}/api/v1', name)}/measures.svg"
    return respond_json(request, tables_to_dict(name, source.measures(name)), alternates({SVG: href}))


@router.get("/api/v1/models/{name:path}/measures.svg", response_class=Response, responses=ERRORS, tags=["models"])
def measures_picture(request: Request, source: Source, name: str, _params: NoParams) -> Response:
    """The same as a picture: distributions over units and dimensionality, layer by layer."""
    tables = choose_tables(source.measures(name), name)
    href = f"{pages.model_href(f'{root(request)}/api/v1', name)}/measures"
    return respond(request, measures_svg(tables), SVG, alternates({JSON: href}))
