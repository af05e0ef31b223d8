"""The composition of the service. Nothing is built at import; a server calls the factory `api.app:create_app`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.staticfiles import StaticFiles

from api import errors
from api.middleware import HeadAsGet, Measured, Metrics, SecurityHeaders
from api.routes import benchmarks, health, leaderboard, measures, models, robustness
from api.settings import ApiSettings
from api.source import BoardSource, StoreSource

STATIC: Final = Path(__file__).parent / "static"


def create_app(settings: ApiSettings | None = None, source: BoardSource | None = None) -> FastAPI:
    """The service.

    Args:
        settings: how it is set up; by default from the environment.
        source: where boards come from; by default the store that `settings` names, opened read-only when first needed.
    """
    settings = settings or ApiSettings()
    app = FastAPI(
        title="robustboard",
        version=version("robustboard"),
        description="How image classifiers hold up under corruptions and white-box attacks. Read-only.",
        openapi_url="/api/v1/openapi.json",
        # The bundled viewers load scripts from other hosts, which the content policy forbids.
        docs_url=None,
        redoc_url=None,
    )
    app.state.source = source or StoreSource(settings.db)
    app.state.metrics = Metrics()
    errors.install(app)
    for module in (leaderboard, robustness, measures, models, benchmarks, health):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(GZipMiddleware, minimum_size=2048)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.cors_origins), allow_methods=["GET", "HEAD"])
    app.add_middleware(Measured, metrics=app.state.metrics)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(HeadAsGet)
    return app
