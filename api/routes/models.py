"""Models: the list, and one model with its card, scores and evaluations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api import pages, view
from api.deps import ERRORS, NoParams, Source
from api.measures_view import measures_view
from api.render import JSON, alternates, html, respond, respond_json, root
from api.robustness_view import robustness_views
from api.schemas import MAX_LIMIT, GridParams, GridsModel, ModelDetailModel, ModelsModel, Window
from harness.attacks.flags import FLAGS
from harness.curves import choose_grids, grids_to_dict
from harness.plots import corruptions_svg

router: Final = APIRouter()
SVG: Final = "image/svg+xml"


@router.get("/api/v1/models", response_model=ModelsModel, responses=ERRORS, tags=["models"])
def models(request: Request, source: Source, params: Annotated[Window, Query()]) -> Response:
    """All models of the store, by name."""
    everything = source.list_models()
    shown = everything[params.offset : params.offset + (params.limit or MAX_LIMIT)]
    return respond_json(request, {"total": len(everything), "models": [asdict(summary) for summary in shown]})


# Before the route of a model, whose name would swallow the rest of the path.
@router.get("/api/v1/models/{name:path}/corruptions", response_model=GridsModel, responses=ERRORS, tags=["models"])
def corruptions(request: Request, source: Source, name: str, _params: NoParams) -> Response:
    """One model by corruption and severity: a grid for each suite and data set, none if it was never corrupted."""
    href = f"{pages.model_href(f'{root(request)}/api/v1', name)}/corruptions.svg"
    return respond_json(request, grids_to_dict(name, source.corruption_curves(name)), alternates({SVG: href}))


@router.get("/api/v1/models/{name:path}/corruptions.svg", response_class=Response, responses=ERRORS, tags=["models"])
def corruptions_picture(
    request: Request, source: Source, name: str, params: Annotated[GridParams, Query()]
) -> Response:
    """The same as a picture: heat map, and curves over severity by family."""
    grids = choose_grids(source.corruption_curves(name), name, suite=params.suite, dataset=params.dataset)
    href = f"{pages.model_href(f'{root(request)}/api/v1', name)}/corruptions"
    return respond(request, corruptions_svg(grids), SVG, alternates({JSON: href}))


@router.get("/api/v1/models/{name:path}", response_model=ModelDetailModel, responses=ERRORS, tags=["models"])
def model(request: Request, source: Source, name: str, _params: NoParams) -> Response:
    """One model: its card, its scores on every board, its evaluations."""
    detail = source.model_detail(name)
    body = {
        **asdict(detail.summary),
        "card": dict(detail.card),
        "scores": [dict(score) for score in detail.scores],
        "evaluations": [dict(evaluation) for evaluation in detail.evaluations],
        "flags": dict(detail.flags),
        "best_known": [dict(figure) for figure in detail.best_known],
    }
    return respond_json(request, body, alternates({"text/html": pages.model_href(root(request), name)}))


@router.get("/models/{name:path}", include_in_schema=False)
def model_page(request: Request, source: Source, name: str, _params: NoParams) -> Response:
    """One model as a page."""
    page = pages.model_page(source, name)
    json_href = pages.model_href(f"{root(request)}/api/v1", name)
    body = html(
        request,
        "model.html",
        page=page,
        detail=page.detail,
        summary=page.detail.summary,
        facts=view.card_facts(page.detail.card),
        boards=view.model_scores(page),
        grids=view.grids(page, root(request)),
        robustness=robustness_views(page, root(request)),
        measures=measures_view(page),
        meanings=FLAGS,
        hue=view.family_hue(page.detail.summary.family),
        json_href=json_href,
        grids_href=f"{json_href}/corruptions",
        robustness_href=f"{json_href}/robustness",
        measures_href=f"{json_href}/measures",
        raw=view.raw,
        web_address=view.web_address,
    )
    return respond(request, body, "text/html", alternates({JSON: json_href}))
