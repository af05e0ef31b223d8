"""A client that calls an app in the same process, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
from fastapi import FastAPI


class Client:
    """Plain calls to an app; failures inside the app come back as the answers that a stranger would see."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """One request."""

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://board.test") as client:
                return await client.request(method, path, headers=dict(headers or {}))

        return asyncio.run(call())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """One GET."""
        return self.request("GET", path, headers)
