"""What `doctor` says about a Prometheus, from the answers of its API. The acceptance tests ask a real one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deploy import doctor_monitoring
from deploy.doctor import FindingState

ALERTS = sorted(doctor_monitoring.shipped_alerts())
GOOD: dict[str, Any] = {
    "query": {"resultType": "vector", "result": [{"metric": {"job": "ingest"}, "value": [1.5, "2"]}]},
    "targets": {"activeTargets": [{"labels": {"job": "ingest", "instance": "a:1"}, "health": "up", "lastError": ""}]},
    "rules": {"groups": [{"name": "g", "rules": [{"name": name, "health": "ok"} for name in ALERTS]}]},
    "alertmanagers": {"activeAlertmanagers": [{"url": "http://127.0.0.1:9093/api/v2/alerts"}]},
}


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "success", "data": answers[self.path.split("/")[3].split("?")[0]]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def states(**answers: Any) -> list[tuple[str, FindingState]]:
    with answering(GOOD | answers) as url:
        return [(finding.name, finding.state) for finding in doctor_monitoring.examine(url)]


def test_good_prometheus_has_no_problem() -> None:
    assert len(ALERTS) > 30
    assert states() == [
        ("Prometheus", FindingState.OK),
        ("alerts", FindingState.OK),
        ("Alertmanager", FindingState.OK),
    ]


@pytest.mark.parametrize(
    ("answers", "name", "state"),
    [
        ({"query": {"result": []}}, "Prometheus", FindingState.WRONG),
        ({"rules": {"groups": []}}, "alerts", FindingState.WRONG),
        ({"rules": {"groups": [{"rules": [{"name": ALERTS[0]}]}]}}, "alerts", FindingState.NOTE),
        ({"alertmanagers": {"activeAlertmanagers": []}}, "Alertmanager", FindingState.NOTE),
    ],
)
def test_missing_part_is_found(answers: dict[str, Any], name: str, state: FindingState) -> None:
    assert (name, state) in states(**answers)


def test_target_of_ours_that_is_down_is_named_with_its_error() -> None:
    down = [
        {"labels": {"job": job, "instance": "b:2"}, "health": "down", "lastError": "connection refused"}
        for job in ("ingest", "somebody-else")
    ]
    with answering(GOOD | {"targets": {"activeTargets": down}}) as url:
        wrong = [each for each in doctor_monitoring.examine(url) if each.state is FindingState.WRONG]
    assert [each.detail for each in wrong] == ["ingest b:2 cannot be scraped: connection refused"]


def test_rule_that_fails_is_named_with_its_error() -> None:
    rules = [{"name": name} for name in ALERTS] + [{"name": "mine", "lastError": "many-to-many"}]
    with answering(GOOD | {"rules": {"groups": [{"rules": rules}]}}) as url:
        (wrong,) = [each for each in doctor_monitoring.examine(url) if each.state is FindingState.WRONG]
    assert wrong.detail == "mine: many-to-many"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:9090", "http://[", "file:///etc"])
def test_address_without_a_prometheus_is_one_problem(url: str) -> None:
    (finding,) = doctor_monitoring.examine(url)
    assert finding.state is FindingState.WRONG
    assert "--prometheus" in finding.advice


def test_answer_that_is_not_prometheus_is_one_problem() -> None:
    with answering(GOOD | {"query": "nonsense"}) as url:
        (finding,) = doctor_monitoring.examine(url)
    assert finding.state is FindingState.WRONG
