"""Failures over HTTP: one JSON envelope for machines, a page for people, and nothing of ours told."""

from __future__ import annotations

import pytest

from api.app import create_app
from harness.errors import StoreNotReady, StoreTooNew
from tests.api.client import Client
from tests.api.fake import failing

BOARD = "/api/v1/leaderboard?benchmark=digits"
PICTURE = "/api/v1/leaderboard.svg?benchmark=digits"


@pytest.mark.parametrize(
    ("path", "status", "kind", "says"),
    [
        ("/api/v1/leaderboard?benchmark=digit", 404, "UnknownName", "did you mean 'digits'?"),
        ("/api/v1/leaderboard.csv?benchmark=digit", 404, "UnknownName", "did you mean 'digits'?"),
        (f"{BOARD}&sort=clean_acuracy", 404, "UnknownName", "did you mean 'clean_accuracy'?"),
        (f"{BOARD}&family=superviced", 404, "UnknownName", "did you mean 'supervised'?"),
        (f"{PICTURE}&x=corruption_acuracy", 404, "UnknownName", "did you mean 'corruption_accuracy'?"),
        (f"{PICTURE}&colour=family", 404, "UnknownName", "score column for colour"),
        (f"{PICTURE}&z=1", 422, "InvalidArgument", "unknown query parameter 'z'"),
        ("/api/v1/leaderboard", 422, "InvalidArgument", "benchmark: missing"),
        (f"{BOARD}&limt=3", 422, "InvalidArgument", "unknown query parameter 'limt'; did you mean 'limit'?"),
        (f"{BOARD}&limit=0", 422, "InvalidArgument", "limit: got '0'"),
        (f"{BOARD}&limit=1001", 422, "InvalidArgument", "less than or equal to 1000"),
        (f"{BOARD}&limit=ten", 422, "InvalidArgument", "limit: got 'ten'"),
        (f"{BOARD}&offset=-1", 422, "InvalidArgument", "offset: got '-1'"),
        (f"{BOARD}&order=up", 422, "InvalidArgument", "order: got 'up'"),
        (f"{BOARD}&family={'x' * 300}", 422, "InvalidArgument", "family: got 'xxx"),
        ("/api/v1/models/small_cnn.supervised.digit", 404, "UnknownName", "did you mean"),
        ("/api/v1/models?q=1", 422, "InvalidArgument", "unknown query parameter 'q'"),
        ("/api/v1/benchmarks?limit=1", 422, "InvalidArgument", "unknown query parameter 'limit'"),
        ("/healthz?x=1", 422, "InvalidArgument", "unknown query parameter 'x'"),
        ("/api/v1/nothing", 404, "NotFound", "/api/v1/nothing"),
        ("/api", 404, "NotFound", "/api"),
    ],
)
def test_every_failure_has_the_one_envelope(client: Client, path: str, status: int, kind: str, says: str) -> None:
    """Status, type and a message of one bounded line that names what was wrong."""
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert list(error) == ["type", "message"]
    assert error["type"] == kind
    assert says in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 400


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [BOARD, "/api/v1/models", "/healthz"])
def test_the_service_only_reads(client: Client, method: str, path: str) -> None:
    """Other methods are refused, with the allowed one named."""
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["error"]["type"] == "MethodNotAllowed"


@pytest.mark.parametrize("path", ["/?benchmark=%3Cscript%3E", "/models/%3Cscript%3E", "/%3Cscript%3E", "/?limit=0"])
def test_pages_fail_as_pages_and_echo_nothing_raw(client: Client, path: str) -> None:
    """A person gets a page, and a hostile address is escaped in it."""
    answer = client.get(path)
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert "To the leaderboard" in answer.text


@pytest.mark.parametrize(
    "error", [StoreNotReady("store x.db: older than this version"), StoreTooNew("store x.db: newer")]
)
@pytest.mark.parametrize("path", [BOARD, "/api/v1/models", "/api/v1/benchmarks", "/readyz"])
def test_without_a_store_the_answer_is_503(path: str, error: Exception) -> None:
    """Boards wait for a store; readiness says so, liveness does not."""
    client = Client(create_app(source=failing(error)))
    answer = client.get(path)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == type(error).__name__
    assert client.get("/healthz").status_code == 200
    assert client.get("/").status_code == 503


def test_readiness_names_the_command_that_mends_it() -> None:
    """An operator reads what to type."""
    client = Client(create_app(source=failing(StoreNotReady("store x.db: older than this version"))))
    assert "robustboard db upgrade" in client.get("/readyz").json()["error"]["message"]


def test_faults_of_ours_tell_nothing() -> None:
    """An unforeseen exception is a 500 in the envelope, without its text, with the security headers."""
    answer = Client(create_app(source=failing(RuntimeError("secret path /srv/x")))).get(BOARD)
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "InternalError"
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers
