"""What routes are given."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import Depends, Query, Request

from api.schemas import ErrorEnvelope, Params
from api.source import BoardSource


def _source(request: Request) -> BoardSource:
    return cast("BoardSource", request.app.state.source)


Source = Annotated[BoardSource, Depends(_source)]
NoParams = Annotated[Params, Query()]
"""For routes that take no query parameter: any that is given is refused."""

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": ErrorEnvelope, "description": "A name that does not exist; the message offers the nearest."},
    422: {"model": ErrorEnvelope, "description": "A parameter that is unknown or out of bounds."},
    503: {"model": ErrorEnvelope, "description": "There is no store of this version yet."},
}
