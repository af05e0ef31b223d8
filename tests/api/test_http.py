"""What holds for every route: caching, HEAD, headers, counts, and what is never imported."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from api.app import create_app
from api.settings import ApiSettings
from tests.api.client import Client
from tests.api.fake import HOSTILE, FakeSource

MODEL = "small_cnn.supervised.digits"
CACHED = (
    "/",
    "/?benchmark=cifar10",
    f"/models/{MODEL}",
    "/api/v1/leaderboard?benchmark=digits",
    "/api/v1/leaderboard.csv?benchmark=digits",
    "/api/v1/leaderboard.md?benchmark=digits",
    "/api/v1/leaderboard.tex?benchmark=digits",
    "/api/v1/leaderboard.svg?benchmark=digits",
    "/api/v1/models",
    f"/api/v1/models/{MODEL}",
    f"/api/v1/models/{MODEL}/corruptions",
    f"/api/v1/models/{MODEL}/corruptions.svg",
    "/api/v1/benchmarks",
)
LIVE = ("/healthz", "/readyz", "/metrics")


@pytest.mark.parametrize("path", CACHED)
def test_an_unchanged_answer_is_not_sent_again(client: Client, path: str) -> None:
    """The ETag of an answer gives an empty 304; another tag gives the answer."""
    first = client.get(path)
    assert first.status_code == 200
    tag = first.headers["etag"]
    assert "no-cache" in first.headers["cache-control"]
    for held in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = client.get(path, {"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, {"If-None-Match": '"other"'}).content == first.content


def test_the_etag_follows_the_content(source: FakeSource) -> None:
    """Other rows, another tag."""
    client = Client(create_app(source=source))
    path = "/api/v1/leaderboard?benchmark=digits"
    before = client.get(path).headers["etag"]
    source.boards = {"digits": source.boards["cifar10"]}
    after = client.get(path, {"If-None-Match": before})
    assert after.status_code == 200
    assert after.headers["etag"] != before


@pytest.mark.parametrize("path", [*CACHED, *LIVE])
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    """HEAD has the status and type of GET, and no content."""
    head, get = client.request("HEAD", path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path not in LIVE:
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", [*CACHED, *LIVE, "/nothing", "/api/nothing", "/static/board.css"])
def test_security_headers_are_everywhere(client: Client, path: str) -> None:
    """No inline script, no foreign resource, no sniffing, no referrer; no CORS unless asked for."""
    headers = client.get(path, {"Origin": "https://example.org"}).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_cors_only_for_named_origins() -> None:
    """A configured origin may read, another may not."""
    app = create_app(ApiSettings(db="none.db", cors_origins=("https://lab.example",)), FakeSource())
    client = Client(app)
    path = "/api/v1/benchmarks"
    allowed = client.get(path, {"Origin": "https://lab.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://lab.example"
    assert "access-control-allow-origin" not in client.get(path, {"Origin": "https://evil.example"}).headers


def test_alternate_forms_are_linked(client: Client) -> None:
    """The page names its JSON and CSV, and following the links gives them."""
    link = client.get("/?benchmark=digits&family=supervised").headers["link"]
    for media, suffix in (("application/json", ""), ("text/csv", ".csv")):
        href = next(part for part in link.split(", ") if f'"{media}"' in part).split(">")[0].lstrip("<")
        assert href == f"/api/v1/leaderboard{suffix}?benchmark=digits&family=supervised"
        assert client.get(href).headers["content-type"].startswith(media)


def test_large_answers_are_compressed_when_asked(client: Client) -> None:
    """Gzip shrinks the page; the content is the same."""
    plain = client.get("/", {"Accept-Encoding": "identity"})
    packed = client.get("/", {"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < len(plain.content) / 2


def test_metrics_count_answers_by_route_and_status(client: Client) -> None:
    """Each answer counts once under its route's template; strangers' paths share one label."""
    for path in (
        "/healthz",
        "/healthz",
        "/api/v1/models/unknown",
        f"/models/{MODEL}",
        "/a",
        '/b"x',
        "/static/board.css",
    ):
        client.get(path)
    client.request("HEAD", "/healthz")
    text = client.get("/metrics").text
    for line in (
        'robustboard_http_requests_total{route="/healthz",status="200"} 3',
        'robustboard_http_requests_total{route="/api/v1/models/{name:path}",status="404"} 1',
        'robustboard_http_requests_total{route="/models/{name:path}",status="200"} 1',
        'robustboard_http_requests_total{route="/static",status="200"} 1',
        'robustboard_http_requests_total{route="unmatched",status="404"} 2',
        'robustboard_http_request_seconds_count{route="/healthz"} 3',
    ):
        assert line in text.splitlines()


def test_models_list_and_detail(client: Client) -> None:
    """The list is cut as asked; each name in it leads to its detail, hostile names too."""
    listed = client.get("/api/v1/models").json()
    assert listed["total"] == len(listed["models"]) == 6
    assert client.get("/api/v1/models?limit=2&offset=1").json() == {"total": 6, "models": listed["models"][1:3]}
    assert HOSTILE in {summary["name"] for summary in listed["models"]}
    for summary in listed["models"]:
        path = quote(summary["name"], safe="")
        detail = client.get(f"/api/v1/models/{path}").json()
        assert {key: detail[key] for key in summary} == summary
        assert set(detail) - set(summary) == {"card", "scores", "evaluations", "flags", "best_known"}


def test_benchmarks_name_their_columns(client: Client) -> None:
    """Every board that can be asked for is listed, and its columns are those of the board."""
    listed = client.get("/api/v1/benchmarks").json()
    assert [(item["name"], item["models"]) for item in listed["benchmarks"]] == [("digits", 6), ("cifar10", 0)]
    board = client.get("/api/v1/leaderboard?benchmark=digits").json()
    names = [column["name"] for column in board["columns"]]
    assert listed["benchmarks"][0]["columns"] == names[-5:]


def test_openapi_describes_every_route(client: Client) -> None:
    """The description lists all routes under /api with their parameters and the error envelope."""
    described = client.get("/api/v1/openapi.json").json()
    routes = {route for route in described["paths"] if route.startswith("/api")}
    assert routes == {
        "/api/v1/leaderboard",
        "/api/v1/leaderboard.csv",
        "/api/v1/leaderboard.md",
        "/api/v1/leaderboard.tex",
        "/api/v1/leaderboard.svg",
        "/api/v1/models",
        "/api/v1/models/{name}",
        "/api/v1/models/{name}/corruptions",
        "/api/v1/models/{name}/corruptions.svg",
        "/api/v1/models/{name}/robustness",
        "/api/v1/models/{name}/robustness.svg",
        "/api/v1/models/{name}/measures",
        "/api/v1/models/{name}/measures.svg",
        "/api/v1/benchmarks",
    }
    operation = described["paths"]["/api/v1/leaderboard"]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {"benchmark", "family", "sort", "order", "limit", "offset", "dataset", "stale"}
    assert "ErrorEnvelope" in str(operation["responses"]["422"])
