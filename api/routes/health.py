"""Whether the service lives, whether it can answer, and what it has answered."""

from __future__ import annotations

from typing import Final, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api.deps import ERRORS, NoParams, Source
from api.errors import failure
from api.middleware import Metrics
from harness.errors import StoreError, StoreNotReady

router: Final = APIRouter(tags=["operation"])
_FRESH: Final = {"Cache-Control": "no-store"}


@router.get("/healthz")
def healthz(_params: NoParams) -> Response:
    """200 as long as the process answers."""
    return JSONResponse({"status": "ok"}, headers=_FRESH)


@router.get("/readyz", responses={503: ERRORS[503]})
def readyz(request: Request, source: Source, _params: NoParams) -> Response:
    """200 if boards can be read, else 503 with the command that mends it."""
    try:
        source.ready()
    except StoreError as error:
        message = str(error)
        if isinstance(error, StoreNotReady) and "db upgrade" not in message:
            message += "; run `robustboard db upgrade`"
        return failure(request, 503, type(error).__name__, message, {"Retry-After": "30"})
    return JSONResponse({"status": "ready"}, headers=_FRESH)


@router.get("/metrics", response_class=Response)
def metrics(request: Request, _params: NoParams) -> Response:
    """Answers by route and status, and the time they took, in Prometheus' text format."""
    text = cast("Metrics", request.app.state.metrics).text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8", headers=_FRESH)
