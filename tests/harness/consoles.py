"""What the tests of the console show it: models of every field, findings, a proxy of a path."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper
from werkzeug.serving import WSGIRequestHandler, make_server

from service.signature import Feature, Head, Input, Signature, Statistics, Tensor, tabular
from tests.harness.apps import over_http
from tests.harness.small import model, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page, Route

F, S = TensorProto.FLOAT, TensorProto.STRING
# The target that `sum` of `fields` has learned.
LEARNED = Statistics(-10, 12.5, 1.0, 5.0)
# It would open a dialog, change the title and ask for /x, if it ever became an element.
MARKUP = '<img src=x onerror="alert(1);document.title=1">'


def markup() -> bytes:
    """Return a model whose every name and text is `MARKUP`, with an ending where they must differ.

    A number n and a text: both labels are as likely for n = 0, and the second more for more.
    """
    table, number, text = f"{MARKUP}table", f"{MARKUP}number", f"{MARKUP}text"
    tensors = {"number": (table, F), "text": (f"{table}.{text}", S)}
    made = model(
        [
            helper.make_node(
                "LabelEncoder",
                [tensors["text"][0]],
                ["zero"],
                domain="ai.onnx.ml",
                keys_strings=[MARKUP],
                values_floats=[0.0],
                default_float=0.0,
            ),
            helper.make_node("Add", [table, "zero"], ["both"]),
            helper.make_node("Sigmoid", ["both"], [f"{MARKUP}head"]),
        ],
        [(name, dtype, ["batch", 1]) for name, dtype in tensors.values()],
        [(f"{MARKUP}head", F, ["batch", 1])],
    )
    vocabulary = (MARKUP, f"{MARKUP}2")
    features = [
        Feature(number, "", default=0),
        Feature(text, "", default=MARKUP, vocabulary=vocabulary),
    ]
    head = Head(
        f"{MARKUP}head",
        "binary",
        Tensor(f"{MARKUP}head", "float32", (1,)),
        (f"{MARKUP}no", f"{MARKUP}yes"),
        0.5,
    )
    warnings = ({"code": "markup", "head": head.name, "message": MARKUP},)
    return signed(
        made,
        Signature(
            inputs={table: tabular(table, features)}, heads={head.name: head}, warnings=warnings
        ),
    )


def fields() -> bytes:
    """Return a model with an input for each sort of field: a vector, a picture, a cube and a flag.

    sum = the sum of the vector; light = the mean of the picture, red, green and blue; same = cube.
    """
    made = model(
        [
            helper.make_node("ReduceSum", ["vector", "last"], ["sum"], keepdims=1),
            helper.make_node("Reshape", ["picture", "by_channel"], ["pixels"]),
            helper.make_node("ReduceMean", ["pixels", "last"], ["light"], keepdims=0),
            helper.make_node("Identity", ["cube"], ["same"]),
            helper.make_node("Not", ["flag"], ["other"]),
        ],
        [
            ("vector", F, ["batch", 3]),
            ("picture", F, ["batch", 18]),
            ("cube", F, ["batch", 2, 1, 2]),
            ("flag", TensorProto.BOOL, ["batch", 1]),
        ],
        [
            ("sum", F, ["batch", 1]),
            ("light", F, ["batch", 3]),
            ("same", F, ["batch", 2, 1, 2]),
            ("other", TensorProto.BOOL, ["batch", 1]),
        ],
        {"last": np.array([1]), "by_channel": np.array([-1, 6, 3])},
    )
    inputs = [
        Input("vector", "tensor", (Tensor("vector", "float32", (3,)),)),
        Input(
            "picture",
            "image",
            (Tensor("picture", "float32", (18,)),),
            size=(2, 3, 3),
            statistics=Statistics(0, 255, 100.0, 50.0),
        ),
        Input("cube", "tensor", (Tensor("cube", "float32", (2, 1, 2)),)),
        Input("flag", "tensor", (Tensor("flag", "bool", (1,)),)),
    ]
    heads = [
        Head("sum", "regression", Tensor("sum", "float32", (1,)), statistics=LEARNED),
        Head("light", "regression", Tensor("light", "float32", (3,))),
        Head("same", "tensor", Tensor("same", "float32", (2, 1, 2))),
        Head("other", "tensor", Tensor("other", "bool", (1,))),
    ]
    return signed(
        made,
        Signature(
            inputs={entry.name: entry for entry in inputs},
            heads={head.name: head for head in heads},
        ),
    )


# Names that every JavaScript object has, or that set its prototype.
INHERITED = ("__proto__", "constructor", "toString")


def inherited() -> bytes:
    """Return a model whose inputs, features and heads have names that objects inherit.

    valueOf and hasOwnProperty = the sums of its two tables, and toString = the first of them.
    """
    tables = INHERITED[:2]
    made = model(
        [
            helper.make_node("ReduceSum", ["constructor", "last"], ["valueOf"], keepdims=1),
            helper.make_node("ReduceSum", ["__proto__", "last"], ["hasOwnProperty"], keepdims=1),
            helper.make_node("Identity", ["constructor"], ["toString"]),
        ],
        [(name, F, ["batch", 3]) for name in tables],
        [
            ("valueOf", F, ["batch", 1]),
            ("hasOwnProperty", F, ["batch", 1]),
            ("toString", F, ["batch", 3]),
        ],
        {"last": np.array([1])},
    )
    features = [Feature(name, "", default=1) for name in INHERITED]
    heads = [
        Head("valueOf", "regression", Tensor("valueOf", "float32", (1,))),
        Head("hasOwnProperty", "regression", Tensor("hasOwnProperty", "float32", (1,))),
        Head("toString", "tensor", Tensor("toString", "float32", (3,))),
    ]
    return signed(
        made,
        Signature(
            inputs={name: tabular(name, features) for name in tables},
            heads={head.name: head for head in heads},
        ),
    )


class _Silent(WSGIRequestHandler):
    """A handler of requests that logs none."""

    def log(self, *_: object) -> None:
        """Do nothing."""


@contextlib.contextmanager
def proxied(port: int, prefix: str) -> Iterator[str]:
    """Serve what a service on this machine serves below a path, and yield the URL of that path."""
    inner = over_http(port)

    def below(environ, start_response):
        target = environ["REQUEST_URI"]
        if not target.startswith(f"{prefix}/"):
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        return inner({**environ, "REQUEST_URI": target.removeprefix(prefix)}, start_response)

    server = make_server("127.0.0.1", 0, below, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


SHARES = {"canary": {"version": "2", "share": 0.05}, "shadow": {"version": "1", "share": 0.1}}
_RARE = {"missing": 0.0, "unseen": None, "out_of_range": 0.0}
_ROWS = {"rows": 1000, "rows_needed": 320, "reference_rows": 4000}
DRIFT = {
    "since": "2026-11-02T08:00:00+00:00",
    "rows": 1000,
    "share": 0.5,
    "window": "24h",
    "features": [
        {
            "feature": "insurance.age",
            "verdict": "drift",
            "psi": 0.3,
            "bound": 0.2,
            "jensen_shannon": 0.1,
            **_RARE,
            "out_of_range": 0.336,
            **_ROWS,
        },
        {
            "feature": "fruit.weight",
            "verdict": "no drift",
            "psi": 0.05,
            "bound": 0.2,
            "jensen_shannon": 0.01,
            **_RARE,
            **_ROWS,
        },
    ],
    "heads": [
        {
            "head": "size",
            "verdict": "too few rows: 0 of 320",
            "psi": None,
            "bound": None,
            "jensen_shannon": None,
            **_RARE,
            **_ROWS,
            "rows": 0,
        },
    ],
}
COMPARISON = {
    "version": "2",
    "with": "1",
    "since": "2026-11-02T08:00:00+00:00",
    "stopped": None,
    "rows": 400,
    "heads": {
        "risk": {
            "rows": 400,
            "labels_differ": 0.25,
            "largest": 0.5,
            "mean": 0.125,
            "not_finite": 0,
            "histogram": {"edges": [0.01, 0.1], "rows": [100, 200, 100]},
        },
        "size": {
            "rows": 300,
            "labels_differ": None,
            "largest": 2.0,
            "mean": 1.5,
            "not_finite": 0,
            "histogram": {"edges": [0.01, 0.1], "rows": [0, 0, 300]},
        },
    },
    "seconds": {"stable": 0.001, "candidate": 0.002, "rows": 50},
}


def with_findings(page: Page, name: str, version: str) -> None:
    """Have a page's service say that a version counts drift, and that others get its traffic.

    Its answers are those of the service, with `DRIFT`, `COMPARISON` and `SHARES` in them.
    """

    def describe(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"traffic": SHARES, "drift": "heads"})

    page.route(f"**/models/{name}", describe)
    page.route(f"**/models/{name}/compare", lambda route: route.fulfill(json=COMPARISON))
    page.route(
        f"**/models/{name}/versions/{version}/drift", lambda route: route.fulfill(json=DRIFT)
    )
