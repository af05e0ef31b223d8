"""Errors over HTTP: one JSON envelope for machines, one page for people."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from api.middleware import SECURITY_HEADERS
from api.render import error_page
from harness.errors import RequestError, RobustboardError, StoreError, UnknownName

MACHINE_PATHS: Final = ("/api", "/healthz", "/readyz", "/metrics")


def install(app: FastAPI) -> None:
    """Register the handlers: every failure of `app` leaves through one of them."""
    app.add_exception_handler(RobustboardError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def failure(
    request: Request, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer for a failed request: JSON under the machine paths, a page elsewhere."""
    kept = {"Cache-Control": "no-store", **(headers or {})}
    if request.url.path.startswith(MACHINE_PATHS):
        return JSONResponse({"error": {"type": kind, "message": message}}, status, kept)
    return error_page(request, status, HTTPStatus(status).phrase, message, kept)


async def _ours(request: Request, error: Exception) -> Response:
    """Our typed errors: 404 unknown, 422 wrong, 503 no store, 500 the rest."""
    if isinstance(error, StoreError):
        return failure(request, 503, type(error).__name__, str(error), {"Retry-After": "30"})
    if isinstance(error, UnknownName):
        return failure(request, 404, type(error).__name__, str(error))
    status = 422 if isinstance(error, RequestError) else 500
    return failure(request, status, type(error).__name__, str(error))


async def _validation(request: Request, error: Exception) -> Response:
    """Wrong query parameters: the first complaint of each, in one line."""
    complaints = []
    for entry in cast("RequestValidationError", error).errors():
        cause = entry.get("ctx", {}).get("error")
        where = ".".join(str(part) for part in entry["loc"][1:])
        if cause is not None:
            complaints.append(str(cause))
        elif entry["type"] == "missing":
            complaints.append(f"{where}: missing")
        else:
            complaints.append(f"{where}: got {str(entry['input'])[:120]!r}, {entry['msg'].lower()}")
    return failure(request, 422, "InvalidArgument", "; ".join(complaints))


async def _http(request: Request, error: Exception) -> Response:
    """What the router refuses: no such path, no such method."""
    error = cast("HTTPException", error)
    kind = HTTPStatus(error.status_code).phrase.title().replace(" ", "")
    message = {
        404: f"no page at {request.url.path[:200]}",
        405: f"{request.method} is not allowed here: everything is read with GET",
    }.get(error.status_code, str(error.detail))
    return failure(request, error.status_code, kind, message, error.headers)


async def _unexpected(request: Request, _error: Exception) -> Response:
    """A fault of ours: it is logged by the server with its traceback, and nothing of it is told."""
    # This answer is made outside of our middleware, so it brings the headers itself.
    message = "the server failed; the operator finds the cause in its log"
    return failure(request, 500, "InternalError", message, SECURITY_HEADERS)
