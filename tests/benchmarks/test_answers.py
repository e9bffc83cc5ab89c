"""The comparison of the answers of two checkouts: requests, and differences that count."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import answers, recorded
from benchmarks.answers import Answer
from benchmarks.servers import Running
from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[2]
# The answers of these routes hold counts and times, or are files of this project.
LEFT_OUT = ("/metrics", "stats", "/drift", "/console/")


def _answer(body, status=200, *headers):
    """Return a recorded answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "content-type: a", *headers, f"content-length: {len(content)}"]
    return Answer.of("\r\n".join([*lines, "", ""]).encode() + content)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        pytest.param(_answer({"a": 1}), _answer({"a": 1}), [], id="none"),
        pytest.param(_answer({"a": 1}), _answer({"a": 2}), ["values"], id="a number"),
        pytest.param(_answer({"a": 1}), _answer({"a": 1.0}), ["values"], id="how it is written"),
        pytest.param(_answer(b'{"a":1}'), _answer(b'{"a": 1}'), ["values"], id="blanks"),
        pytest.param(_answer({"a": "x"}), _answer({"a": "y"}), ["values"], id="a label"),
        pytest.param(_answer({"a": 1}), _answer({"a": 1, "b": 2}), ["values"], id="a key more"),
        pytest.param(_answer(b"x"), _answer(b"y"), ["values"], id="no JSON"),
        pytest.param(_answer({"error": "a 1"}), _answer({"error": "b 1"}), ["wording"], id="words"),
        pytest.param(
            _answer({"problems": [{"at": "x", "expected": "one"}]}),
            _answer({"problems": [{"at": "y", "expected": "1 of"}]}),
            ["values", "figures"],
            id="a place and a figure",
        ),
        pytest.param(
            _answer({"status": {"error_code": "OK", "error_message": ""}}),
            _answer({"status": {"error_code": "NO", "error_message": "no"}}),
            ["values", "wording"],
            id="a code and its words",
        ),
        pytest.param(_answer({}), _answer({}, 404), ["status"], id="a status"),
        pytest.param(_answer({}), _answer({}, 200, "a: b"), ["headers"], id="a header more"),
        pytest.param(_answer({}, 200, "a: b"), _answer({}, 200, "A: b"), ["spelling"], id="case"),
        pytest.param(
            _answer({}, 200, f"X-Request-ID: {32 * 'a'}", "Date: now"),
            _answer({}, 200, f"X-Request-ID: {32 * 'b'}", "Date: then"),
            [],
            id="what is random",
        ),
        pytest.param(
            _answer({}, 200, "X-Request-ID: mine"),
            _answer({}, 200, f"X-Request-ID: {32 * 'b'}"),
            ["headers"],
            id="a name that was given",
        ),
        pytest.param(
            Answer(b"HTTP/1.1 200 OK", ("content-length: 3",), b""),
            Answer(b"HTTP/1.1 200 OK", ("content-length: 4",), b""),
            ["wording"],
            id="the length that a HEAD shows",
        ),
    ],
)
def test_differences_are_reported_by_kind(before, after, kinds):
    """Another text is a difference of wording, and any other difference counts."""
    assert [difference.kind for difference in answers.differences(before, after)] == kinds


def test_every_route_is_asked():
    """Each route is requested with each of its methods, with right and wrong requests."""
    app = create_app(Settings(models=ROOT / "models"))
    asked = {
        tuple(request.content.split(b" ", 2)[:2])
        for setting in answers.settings()
        for request in setting.requests
        if not request.ours
    }
    matched = set()
    for method, target in asked:
        path, _, _ = target.decode("latin-1").partition("?")
        adapter = app.url_map.bind("localhost")
        if path.startswith("/") and adapter.test(path, method.decode()):
            rule, _ = adapter.match(path, method.decode(), return_rule=True)
            matched.add((rule.rule, method.decode()))

    expected = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"OPTIONS", "HEAD"}
        if not any(part in rule.rule for part in LEFT_OUT)
    }
    unasked = expected - matched
    assert not unasked


def test_no_request_is_recorded_twice_and_each_body_has_its_model(tmp_path):
    """Neither a repeated request nor a body without its model would show a difference."""
    recorded.write_models(tmp_path)
    for requests in (recorded.requests(), recorded.guarded()):
        names = [request.name for request in requests]
        assert len(names) == len(set(names))
    for path in recorded.CORPUS.glob("*/*.body"):
        _, model = path.read_bytes().partition(b"\n")[0].decode().split()
        assert (tmp_path / model / "1/model.onnx").is_file()


@pytest.mark.skipif(
    not (ROOT / ".venv/bin/triceps").exists(), reason="the checkout has no .venv of its own"
)
@pytest.mark.parametrize("way", [answers.OURS, answers.FLASK])
def test_a_checkout_answers_as_itself(way):
    """Two services of one checkout give equal answers to some requests, over each interface."""
    kept = [request for request in recorded.requests() if not request.ours][::150]

    differences = answers.compare((ROOT, ROOT), answers.Setting(way, tokens=False, requests=kept))

    assert [(request, []) for request in kept] == [(a.request, a.differences) for a in differences]
    assert {"200", "400"} <= {asked.status for asked in differences}


def test_another_process_on_the_port_of_a_server_is_noticed():
    """Otherwise a checkout could be compared with itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with subprocess.Popen(["sleep", "30"]) as other:
            assert answers.is_its_own(Running(os.getpid(), port, 0))
            assert not answers.is_its_own(Running(other.pid, port, 0))
            other.kill()
    assert not answers.is_its_own(Running(os.getpid(), port, 0))


def test_the_exit_code_shows_whether_more_than_wording_differs(monkeypatch, tmp_path):
    """Each difference is printed once with its places; more than wording gives exit code 1."""
    first, second = (recorded.request("GET", path) for path in ("/a", "/b"))
    worded = answers.Difference(answers.WORDING, "old", "new", ".error")
    pairs = [answers.Asked(one, "200", [worded]) for one in (first, second)]
    monkeypatch.setattr(answers, "compare", lambda *_: pairs)

    done = CliRunner().invoke(answers.main, [str(tmp_path), str(tmp_path)])

    assert done.exit_code == 0, done.output
    assert "wording: GET /a at .error; GET /b at .error\n    - old\n    + new\n" in done.output

    pairs.append(answers.Asked(first, "200", [answers.Difference(answers.VALUES, "1", "2")]))
    assert CliRunner().invoke(answers.main, [str(tmp_path), str(tmp_path)]).exit_code == 1
