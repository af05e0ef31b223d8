"""Benchmarks: which boards there are, and what their columns mean."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.deps import ERRORS, NoParams, Source
from api.render import respond_json
from api.schemas import BenchmarksModel

router: Final = APIRouter()


@router.get("/api/v1/benchmarks", response_model=BenchmarksModel, responses=ERRORS, tags=["boards"])
def benchmarks(request: Request, source: Source, _params: NoParams) -> Response:
    """Every board that can be asked for."""
    listed = [asdict(summary) for summary in source.list_benchmarks()]
    return respond_json(request, {"total": len(listed), "benchmarks": listed})
