"""A page becomes an answer: HTML through templates, text through `harness.formats`, all with ETag and 304."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE: Final = Path(__file__).parent
JSON: Final = "application/json"
# The answer may be kept, but is asked for again each time: a 304 is cheap and a new run shows at once.
CACHE: Final = "public, no-cache"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset_version"] = _asset_version
    return environment


@cache
def _asset_version(name: str) -> str:
    """A short digest of a static file: browsers may keep it until it changes."""
    return hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]


def root(request: Request) -> str:
    """The prefix under which a proxy serves the app, "" by default; every link of ours begins with it."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def html(request: Request, template: str, **context: Any) -> str:
    """A template's text. Every value in `context` is escaped where it is used."""
    return _environment().get_template(template).render(root=root(request), **context)


def respond(request: Request, body: str, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with an ETag of its body, or an empty 304 if the caller holds the same body.

    The ETag is weak, since the body may be compressed on its way.
    """
    content = body.encode()
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    kept = {"ETag": etag, "Cache-Control": CACHE, **(headers or {})}
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=kept)
    return Response(content, media_type=media_type, headers=kept)


def respond_json(request: Request, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """`respond` with a value as JSON; numbers keep their full precision."""
    return respond(request, json.dumps(value, ensure_ascii=False, allow_nan=False), JSON, headers)


def error_page(request: Request, status: int, title: str, message: str, headers: Mapping[str, str]) -> Response:
    """A failure as a page."""
    body = html(request, "error.html", status=status, title=title, message=message)
    return Response(body, status, dict(headers), media_type="text/html")


def alternates(links: Mapping[str, str]) -> dict[str, str]:
    """A Link header that names the other forms of the same page, media type -> address."""
    return {"Link": ", ".join(f'<{href}>; rel="alternate"; type="{media}"' for media, href in links.items())}


def _matches(header: str, etag: str) -> bool:
    """If-None-Match against our ETag by weak comparison (RFC 9110, 13.1.2)."""
    known = {candidate.strip().removeprefix("W/") for candidate in header.split(",")}
    return "*" in known or etag.removeprefix("W/") in known
