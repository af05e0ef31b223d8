"""Models: the list, and one model with its card, scores and evaluations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api import pages, view
from api.deps import ERRORS, NoParams, Source
from api.render import JSON, alternates, html, respond, respond_json, root
from api.schemas import MAX_LIMIT, ModelDetailModel, ModelsModel, Window

router: Final = APIRouter()


@router.get("/api/v1/models", response_model=ModelsModel, responses=ERRORS, tags=["models"])
def models(request: Request, source: Source, params: Annotated[Window, Query()]) -> Response:
    """All models of the store, by name."""
    everything = source.list_models()
    shown = everything[params.offset : params.offset + (params.limit or MAX_LIMIT)]
    return respond_json(request, {"total": len(everything), "models": [asdict(summary) for summary in shown]})


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
        hue=view.family_hue(page.detail.summary.family),
        json_href=json_href,
        raw=view.raw,
    )
    return respond(request, body, "text/html", alternates({JSON: json_href}))
