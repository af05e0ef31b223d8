"""What wraps every answer: HEAD, security headers and counts. Plain ASGI, so that nothing is buffered."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class HeadAsGet:
    """Answers HEAD as GET without the body; the headers, length included, are those of GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server looks at its own scope to decide that no body follows.
        await self.app({**scope, "method": "GET"}, receive, bodiless)


class SecurityHeaders:
    """Sets the security headers on every answer, failures included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, secured)


class Metrics:
    """Counts of answers and time spent, by route template and status, as Prometheus text.

    Labels are bounded: a path that matches no route counts under "unmatched". The counts are those of one process; they
    change on the event loop's thread only.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def record(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests[route, status] += 1
        self._seconds[route] += seconds

    def text(self) -> str:
        """The exposition format, version 0.0.4."""
        lines = [
            "# HELP robustboard_http_requests_total Answers by route and status.",
            "# TYPE robustboard_http_requests_total counter",
        ]
        for (route, status), count in sorted(self._requests.items()):
            lines.append(f'robustboard_http_requests_total{{route="{route}",status="{status}"}} {count}')
        lines += [
            "# HELP robustboard_http_request_seconds Time to answer, by route.",
            "# TYPE robustboard_http_request_seconds summary",
        ]
        for route, seconds in sorted(self._seconds.items()):
            count = sum(n for (name, _), n in self._requests.items() if name == route)
            lines.append(f'robustboard_http_request_seconds_sum{{route="{route}"}} {seconds:.6f}')
            lines.append(f'robustboard_http_request_seconds_count{{route="{route}"}} {count}')
        return "\n".join(lines) + "\n"


class Measured:
    """Feeds `Metrics` with every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.metrics.record(_route(scope), status, time.perf_counter() - started)


def _route(scope: Scope) -> str:
    """The route's template: a bounded label, whatever a stranger asks for."""
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return template
    return "/static" if scope["path"].startswith("/static/") else "unmatched"
