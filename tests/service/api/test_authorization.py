"""Authorization: what each route of the app requires, tested by real requests to every rule."""

from dataclasses import replace
from hashlib import sha256

import onnx
import pytest
from flask import Flask, Response

from service import settings as all_settings
from service.api import oip, v1
from service.api.authorization import OPEN, add
from service.api.scoring import NOT_SAID
from service.app import create_app
from service.errors import RequestError
from service.http import request_ids
from service.http.access import Access
from service.repository.reloader import Library
from tests.harness import small, tokens

A_HASH = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
B_HASH = "sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
C_HASH = "sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"
FILE = f"""
[[tokens]]
name = "all"
hash = "{A_HASH}"
scopes = ["predict", "admin"]

[[tokens]]
name = "some"
hash = "{B_HASH}"
scopes = ["predict"]
models = ["three", "ghost"]

[[tokens]]
name = "meter"
hash = "{C_HASH}"
scopes = ["metrics"]
"""
ALL, SOME, METER = "Bearer a", "Bearer b", "Bearer c"
ORIGIN = "https://app.example.com"

# Every rule is listed deliberately: a new rule of the app needs a decision here.
NOTHING = {*OPEN, "/my/health", "/console/", "/console/console.css", "/console/console.js"}
PREDICTIONS = {
    "/predict",
    "/models/<name>/predict",
    "/models/<name>/versions/<version>/predict",
    "/models/<name>/aliases/<alias>/predict",
    "/v2/models/<name>/infer",
    "/v2/models/<name>/versions/<version>/infer",
    *(
        f"/v1/models/<name>{which}:{verb}"
        for which in ("", "/versions/<version>", "/labels/<alias>")
        for verb in ("predict", "classify", "regress", "explain")
    ),
    "/invocations",
    "/my/predict",
}
PAGES = {
    "/",
    "/models",
    "/models/<name>",
    "/models/<name>/versions/<version>",
    "/models/<name>/aliases/<alias>",
    "/models/<name>/compare",
    "/models/<name>/drift",
    "/models/<name>/versions/<version>/drift",
    "/models/<name>/example",
    "/models/<name>/versions/<version>/example",
    "/openapi.json",
    "/v1/models",
    "/v1/models/<name>",
    "/v1/models/<name>/versions/<version>",
    "/v1/models/<name>/labels/<alias>",
    "/v1/models/<name>/metadata",
    "/v1/models/<name>/versions/<version>/metadata",
    "/v1/models/<name>/labels/<alias>/metadata",
    "/v2",
    "/v2/models",
    "/v2/models/<name>",
    "/v2/models/<name>/versions/<version>",
    "/v2/models/<name>/ready",
    "/v2/models/<name>/versions/<version>/ready",
    "/v2/models/<name>/config",
    "/v2/models/<name>/versions/<version>/config",
    "/v2/models/stats",
    "/v2/models/<name>/stats",
    "/v2/models/<name>/versions/<version>/stats",
    "/v2/repository/index",
    "/version",
}
# They tell of every model, and a report has rows of the training data.
METRICS = {"/metrics", "/models/<name>/versions/<version>/report"}
ADMIN = {"/v2/repository/models/<name>/load", "/v2/repository/models/<name>/unload"}


@pytest.fixture
def settings(tmp_path):
    """Return settings of two models and a view, with which the app has all its rules."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"risky": ["risk"]}))
    small.put(tmp_path / "models", "secret", 1, small.three())
    options = {"predict_route": "/my/predict", "health_route": "/my/health"}
    return all_settings.load({}, models=tmp_path / "models", default_model="three", **options)


@pytest.fixture
def access(tmp_path):
    """Return three tokens: for everything, for two models, and for metrics."""
    (tmp_path / "tokens.toml").write_text(FILE)
    (tmp_path / "tokens.toml").chmod(0o600)
    return Access.open(tmp_path / "tokens.toml")


def gated(settings, access, origins=()):
    """Return an app with some pages of the service behind the gate."""
    app = Flask("gated", static_folder=None)
    library = app.extensions["triceps"] = Library.of(settings)
    app.url_map.strict_slashes = False
    add(app, access, settings, origins)
    app.register_blueprint(v1.pages(library))

    @app.errorhandler(RequestError)
    def refuse(error):
        return Response(str(error), error.status, error.headers)

    @app.get("/models")
    @app.get("/models/<name>")
    @app.post("/predict")
    @app.post("/models/<name>/predict")
    @app.post("/v2/repository/models/<name>/load")
    @app.get("/version")
    @app.get("/livez")
    @app.get("/metrics")
    def answer(name=""):
        library.find(*filter(None, [name]))
        return request_ids.current.get()

    return app.test_client()


@pytest.fixture
def client(settings, access):
    """Return a client of the gated app."""
    return gated(settings, access)


def scope_asked(settings, access, method, path, added=()):
    """Return the scope that a request needs, as tokens are refused; `None` if it is open."""
    app = create_app(settings, access=access)
    for rule in added:
        app.add_url_rule(rule, view_func=lambda: "", endpoint=rule)
    return _scope_asked(app.test_client(), method, path)


def _scope_asked(client, method, path):
    """Return the scope for one method."""

    def status(headers):
        more = {"PATH_INFO": path}
        return client.open("/", method=method, headers=headers, environ_overrides=more).status_code

    if status({}) != 401:
        return None
    (scope,) = (s for s in ("predict", "admin", "metrics") if status(tokens.header(s)) != 403)
    return scope


@pytest.fixture
def by_scope(tmp_path):
    """Return a token for each scope alone."""
    return Access.open(tokens.put(tmp_path))


def test_every_rule_needs_its_scope(settings, by_scope):
    """Only the listed rules are open or for administrators, with any method."""
    app = create_app(settings, access=by_scope)
    client = app.test_client()
    wanted = {
        **dict.fromkeys(NOTHING),
        **dict.fromkeys(PREDICTIONS | PAGES, "predict"),
        **dict.fromkeys(ADMIN, "admin"),
        **dict.fromkeys(METRICS, "metrics"),
    }
    needed = {}
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for variable in ("name", "version", "alias"):
            path = path.replace(f"<{variable}>", "1")
        scopes = {_scope_asked(client, method, path) for method in (*rule.methods, "PATCH")}
        needed.setdefault(rule.rule, set()).update(scopes)

    assert needed == {rule: {scope} for rule, scope in wanted.items()}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        pytest.param("GET", "/livez/", None, id="a slash at the end"),
        pytest.param("GET", "/metrics/", "metrics", id="a slash at the end of a closed one"),
        pytest.param("GET", "//metrics", "metrics", id="a doubled slash, which leads there too"),
        pytest.param("GET", "/livezz", "predict", id="like an open one"),
        pytest.param("GET", "/livez/..", "predict", id="below an open one"),
        pytest.param("GET", "/ping/../models", "predict", id="through an open one"),
        pytest.param("GET", "/LIVEZ", "predict", id="in capitals"),
        pytest.param("POST", "/v2/repository/models/a b/load", "admin", id="a blank"),
        pytest.param("POST", "/v2/repository/models/a/load/", "admin", id="a slash after it"),
        pytest.param("GET", "/nowhere", "predict", id="nowhere"),
        pytest.param("GET", "", "predict", id="no path"),
        pytest.param("*", "*", "predict", id="no request"),
    ],
)
def test_a_path_without_a_rule_is_not_open(settings, by_scope, method, path, scope):
    """The gate uses the route that the app finds, so no spelling of a path avoids it."""
    assert scope_asked(settings, by_scope, method, path) == scope


def test_a_rule_without_a_decision_is_closed(settings, by_scope):
    """A rule without a decision requires a token for all models."""
    assert scope_asked(settings, by_scope, "GET", "/new", added=["/new"]) == "predict"


@pytest.mark.parametrize("path", ["/models", "/v1/models/three", "/metrics", "/nowhere"])
def test_without_a_token_nothing_is_answered(client, path):
    """Without a token, only health pages answer."""
    answer = client.get(path)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="triceps"'
    assert client.get("/livez").status_code == 200
    assert client.get("/livez", headers={"Authorization": "Bearer x"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        pytest.param("GET", "/models", ALL, 200, id="all, the list"),
        pytest.param("GET", "/models/secret", ALL, 200, id="all, a model"),
        pytest.param("GET", "/metrics", ALL, 403, id="all, but metrics"),
        pytest.param("POST", "/v2/repository/models/secret/load", ALL, 200, id="all, an admin's"),
        pytest.param("GET", "/nowhere", ALL, 404, id="all, nowhere"),
        pytest.param("PUT", "/models/secret", ALL, 405, id="all, a wrong method"),
        pytest.param("GET", "/v1/models/three", SOME, 200, id="some, one of them"),
        pytest.param("POST", "/predict", SOME, 200, id="some, the default is one"),
        pytest.param("GET", "/version", SOME, 200, id="some, what tells of none"),
        pytest.param("GET", "/nowhere", SOME, 404, id="some, nowhere"),
        pytest.param("PUT", "/models/secret", SOME, 403, id="some, a wrong method"),
        pytest.param("PUT", "/models/three", SOME, 405, id="some, a wrong method of theirs"),
        pytest.param("GET", "/models", SOME, 403, id="some, the list"),
        pytest.param("GET", "/v1/models", SOME, 403, id="some, another list"),
        pytest.param("GET", "/models/risky", SOME, 403, id="some, a view has a name of its own"),
        pytest.param("POST", "/v2/repository/models/three/load", SOME, 403, id="some, an admin's"),
        pytest.param("GET", "/metrics", METER, 200, id="the collector"),
        pytest.param("GET", "/models/three", METER, 403, id="the collector, a model"),
        pytest.param("OPTIONS", "/models", "", 401, id="what may be done with something"),
    ],
)
def test_a_token_opens_what_it_is_for(client, method, path, token, status):
    """A token gives access to its scope and nothing else."""
    answer = client.open(path, method=method, headers={"Authorization": token} if token else {})

    assert answer.status_code == status


@pytest.mark.parametrize("name", ["secret", "secre", "nothing", "ghost"])
def test_a_token_for_some_models_reveals_no_other(client, name):
    """A token for some models reveals no others.

    Neither their names, nor misspelt names, nor missing versions of its own models do.
    """
    for path in (f"/models/{name}", f"/v1/models/{name}", f"/v1/models/{name}/labels/x"):
        answer = client.get(path, headers={"Authorization": SOME})

        assert answer.status_code == (404 if name == "ghost" else 403)
        assert "secret" not in answer.text.replace(f"{name!r}", "")


def test_without_a_default_a_token_for_some_models_reveals_no_other(tmp_path, access):
    """Without a default model, the message would otherwise name every model."""
    for name in ("three", "secret"):
        small.put(tmp_path / "models", name, 1, small.three())
    client = gated(all_settings.load({}, models=tmp_path / "models"), access)

    some = client.post("/predict", headers={"Authorization": SOME})
    every = client.post("/predict", headers={"Authorization": ALL})

    assert (some.status_code, "secret" in some.text) == (403, False)
    assert (every.status_code, "secret" in every.text) == (404, True)


def test_without_tokens_all_is_open_but_to_admins(settings):
    """Without a tokens file, every route but those for administrators is open."""
    client = gated(settings, Access.open(""))

    assert client.get("/models").status_code == 200
    assert client.get("/metrics").status_code == 200
    assert client.post("/v2/repository/models/three/load").status_code == 403


def test_a_request_keeps_its_id(client):
    """Answers, errors and log entries of a request share its request ID."""
    headers = {"X-Request-ID": "mine-1"}
    passed = client.get("/version", headers={"Authorization": ALL, **headers})
    refused = client.get("/version", headers=headers)

    assert passed.text == passed.headers["X-Request-ID"] == "mine-1"
    assert refused.headers["X-Request-ID"] == "mine-1"
    assert len(client.get("/livez").headers["X-Request-ID"]) == 32
    assert request_ids.current.get() == ""


def test_a_page_of_an_allowed_origin_may_ask(settings, access):
    """A preflight request needs no token, and the page may read answers and refusals."""
    client = gated(settings, access, (ORIGIN,))
    first = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    asked = client.options("/models/three/predict", headers=first)
    answered = client.get("/version", headers={"Origin": ORIGIN, "Authorization": ALL})
    refused = client.get("/version", headers={"Origin": ORIGIN})
    other = client.get("/version", headers={"Origin": "https://b.example", "Authorization": ALL})

    assert (asked.status_code, asked.data) == (200, b"")
    assert asked.headers.getlist("Vary") == ["Origin"]
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    assert answered.headers.getlist("Access-Control-Allow-Origin") == [ORIGIN]
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    assert (other.status_code, "Access-Control-Allow-Origin" in other.headers) == (200, False)
    assert "Origin" in other.headers["Vary"]


def test_a_page_of_another_origin_gets_no_answer(settings, access):
    """A preflight request of another origin counts as a request without a token.

    By default, every origin is another one.
    """
    first = {"Origin": "https://b.example", "Access-Control-Request-Method": "POST"}
    for origins in ((ORIGIN,), ()):
        answer = gated(settings, access, origins).options("/predict", headers=first)

        assert answer.status_code == 401
        assert not any(name.startswith("Access-Control") for name, _ in answer.headers)


def test_pages_of_the_protocols_are_behind_the_gate(settings, access):
    """The gate precedes every check of a blueprint."""
    app = Flask("gated")
    library = app.extensions["triceps"] = Library.of(settings)
    add(app, access, settings)
    app.register_blueprint(v1.pages(library))
    app.register_blueprint(oip.pages(library, None))

    @app.errorhandler(RequestError)
    def refuse(error):
        return Response(str(error), error.status, error.headers)

    answer = app.test_client().get("/v1/models/three:guess")

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("token", "told"),
    [
        pytest.param(None, False, id="none"),
        pytest.param("guess", False, id="unknown"),
        pytest.param("some", False, id="for some models"),
        pytest.param("metrics", False, id="for other things"),
        pytest.param("predict", True, id="for all"),
    ],
)
def test_health_names_models_to_tokens_for_all_of_them(tmp_path, token, told):
    """Without a token, health shows whether all is well and where to find the reason."""
    small.put(tmp_path / "models", "secret", 1, b"junk")
    options = {"tokens_file": tokens.put(tmp_path), "health_route": "/my/health"}
    settings = all_settings.load({}, models=tmp_path / "models", **options)
    headers = {} if token is None else tokens.header(token)
    client = create_app(settings).test_client()
    why = "it is not an ONNX file, or not the whole of one"

    answer = client.get("/readyz", headers=headers)
    reason = f"no model is usable: secret, version 1: {why}" if told else NOT_SAID
    assert (answer.status_code, answer.json) == (503, {"status": "not ready", "reason": reason})
    for path in ("/ping", "/health", "/my/health"):
        answer = client.get(path, headers=headers)
        reason = f"model 'secret', version 1: refused, {why}" if told else NOT_SAID
        assert (answer.status_code, answer.json["message"]) == (503, reason)
    assert client.get("/v2/health/ready", headers=headers).json == {"ready": False}

    small.put(tmp_path / "models", "secret", 2, small.three())
    client = create_app(settings).test_client()
    ready = {"status": "ready", **({"models": ["secret"]} if told else {})}
    assert client.get("/readyz", headers=headers).json == ready
    for path in ("/livez", "/readyz", "/ping", "/health", "/my/health", "/v2/health/ready"):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, "secret" in answer.text) == (200, told and path == "/readyz")


def test_without_tokens_health_names_models_to_all(settings):
    """Without a tokens file, health names the models."""
    answer = create_app(settings).test_client().get("/readyz")

    assert answer.json == {"status": "ready", "models": ["risky", "secret", "three"]}


@pytest.mark.parametrize(
    ("state", "status"),
    [("serving", 200), ("superseded", 404), ("unloaded", 503), ("broken", 200)],
)
def test_a_token_for_a_view_never_reveals_its_model(tmp_path, state, status):
    """No rule reveals the model of a view, whatever the state of the model."""
    models = tmp_path / "models"
    provenance = {"spec": "furtive", "source": "furtive.onnx", "scores": {"risk": {}, "digits": {}}}
    changed = replace(
        small.three_signature(models={"risky": ("risk",)}),
        provenance=provenance,
    )
    graph = onnx.load_from_string(small.three())
    small.put(models, "furtive", 1, small.signed(graph, changed))
    digest = sha256(tokens.secret("t").encode()).hexdigest()
    file = tmp_path / "tokens.toml"
    file.write_text(
        f'[[tokens]]\nname = "t"\nhash = "sha256:{digest}"\nscopes = ["predict", "admin"]\n'
        'models = ["risky"]\n'
    )
    app = create_app(all_settings.load({}, models=models, tokens_file=str(file)))
    library = app.extensions["triceps"]
    if state == "superseded":
        small.put(models, "furtive", 2, small.three())
    if state == "broken":
        small.put(models, "furtive", 2, b"")
    if state == "unloaded":
        (models / "furtive" / "unloaded").touch()
    library.refresh()
    client = tokens.bring(app.test_client(), "t")
    answers = []
    # The files of the console are the same for everybody.
    rules = [rule for rule in app.url_map.iter_rules() if "/console/" not in rule.rule]
    for rule in rules:
        path = rule.rule.replace("<name>", "risky").replace("<version>", "1")
        path = path.replace("<alias>", "stable")
        for method in sorted(rule.methods - {"OPTIONS", "HEAD"}):
            for body in ({}, {"instances": [{"age": 1}]}):
                answer = client.open(path, method=method, json=body if method == "POST" else None)
                if "furtive" in answer.text or "digits" in answer.text:
                    answers.append((method, path, answer.text))
    answer = client.post("/models/risky/predict", json={"instances": [{"age": 1, "bmi": 1}]})

    assert answers == []
    assert answer.status_code == status


def test_a_token_for_one_model_does_not_reveal_the_default(tmp_path, access):
    """The default model is refused even if a request does not name it."""
    for name in ("three", "secret"):
        small.put(tmp_path / "models", name, 1, small.three())
    settings = all_settings.load({}, models=tmp_path / "models", default_model="secret")
    answer = gated(settings, access).post("/predict", headers={"Authorization": SOME})

    assert answer.status_code == 403
    assert "secret" not in answer.text
