"""A run that was never made, with everything that a report shows, and the page about it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from service.signature import Feature, Input, Tensor, tabular
from training import report
from training.rows import Data, Source

# Of the ten rows of a file, the third is the worst.
ANSWERS = np.float32([0.1, 0.2, 0.9, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 0.9]).reshape(-1, 1)
TARGETS = np.float32([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]).reshape(-1, 1)


def data(rows=200, seed=0, columns=("age", "city"), shift=0.0):
    """Return rows of a table with a number and texts, some of them missing, and of an image."""
    rng = np.random.default_rng(seed)
    numbers = [name for name in columns if name != "city"]
    features = [Feature(name, "", 0, 0.0) for name in numbers]
    arrays = {"people": rng.normal(shift, 1, (rows, len(numbers))).astype(np.float32)}
    if "city" in columns:
        features.append(Feature("city", "", 0, "Oslo", ("Bergen", "Oslo", "Rome")))
        texts = rng.choice(["Bergen", "Oslo", "Rome"], rows).astype(object)
        arrays["people.city"] = texts.reshape(-1, 1)
    size = (4, 6)
    pixels = Input("picture", "image", (Tensor("picture", "float32", (24,)),), size=size)
    arrays["picture"] = rng.uniform(0, 255, (rows, 24)).astype(np.float32)
    missing = {f"people.{numbers[0]}": np.arange(rows) < rows // 10}
    source = Source(Path("people.csv"), rows, arrays, {}, "", columns, np.arange(rows) + 2, missing)
    inputs = {"people": tabular("people", features), "picture": pixels}
    return Data({"people.csv": source}, "position", inputs, {}, {}, ())


def spec(heads=("o1",), layers=1, patience=None):
    """Return a spec whose heads follow a chain of layers, the first of which joins the inputs."""
    before = ("people", "picture")
    chain = {}
    for number in range(layers):
        layer = SimpleNamespace(name=f"h{number}", after=before, kind="Dense", share=None)
        chain[layer.name] = layer
        before = (layer.name,)
    end = SimpleNamespace(after=before, kind="binary", threshold=None)
    ends = {head: SimpleNamespace(name=head, **vars(end)) for head in heads}
    inputs = dict.fromkeys(("people", "picture"))
    fit = SimpleNamespace(patience=patience)
    return SimpleNamespace(name="m", inputs=inputs, layers=chain, heads=ends, models={}, fit=fit)


def answered(heads, rows="held-out", text="b"):
    """Return answers to ten rows of a file in which line 5 is missing, for each of these heads."""
    table = tabular("t", [Feature("age", ""), Feature("plan", "", vocabulary=(text, "c"))])
    arrays = {"t": np.arange(10.0).reshape(-1, 1), "t.plan": np.full((10, 1), text, object)}
    lines = np.array([2, 3, 4, 6, 7, 8, 9, 10, 11, 12])
    targets, answers = dict.fromkeys(heads, TARGETS), dict.fromkeys(heads, ANSWERS)
    source = Source(Path("t.csv"), 10, arrays, targets, "", ("age", "plan"), lines, {})
    labels, columns = dict.fromkeys(heads, ("no", "yes")), dict.fromkeys(heads, ("y",))
    one = Data({"t.csv": source}, "position", {"t": table}, labels, columns, ())
    return SimpleNamespace(side=rows, data=one, sources=[source], targets=targets, answers=answers)


def rise(mean, spread=0.05, *, clear=True):
    """Return the rise of a loss."""
    return SimpleNamespace(mean=mean, spread=spread, clear=clear)


def importance(sides, heads=("o1",)):
    """Return an importance of every feature, the first of which is clear.

    That of `training.importance` would need Keras.
    """
    inputs = sides["training"].inputs
    keys = [
        (name, feature)
        for name, entry in inputs.items()
        for feature in (entry.feature_names or [""])
    ]
    rises = {key: rise(0.5 / (n + 1), clear=n == 0) for n, key in enumerate(keys)}
    whole = {name: rise(0.7) for name in inputs}
    return SimpleNamespace(
        side="held-out",
        rows=80,
        repeats=5,
        losses=dict.fromkeys(heads, 0.3),
        features=dict.fromkeys(heads, rises),
        inputs=dict.fromkeys(heads, whole),
    )


def page(
    *,
    heads=("o1",),
    epochs=3,
    warnings=(),
    notes=(),
    layers=1,
    columns=("age", "city"),
    rows="held-out",
    patience=None,
    text="b",
):
    """Return the report of a run with these heads, as text."""
    score = SimpleNamespace(
        metric="accuracy",
        train=0.9,
        held_out=0.8,
        test=None,
        baseline=0.5,
        rows=90,
        held_out_rows=10,
        test_rows=0,
    )
    losses = tuple(1 / (epoch + 1) for epoch in range(epochs))
    curve = SimpleNamespace(train=losses, held_out=losses)
    train = data(columns=columns)
    train = SimpleNamespace(sources=train.sources, inputs=train.inputs, notes=notes)
    sides = {"training": train, "held-out": data(80, 1, columns)}
    made = spec(heads, layers, patience)
    fitted = SimpleNamespace(
        scores=dict.fromkeys(heads, score),
        curves=dict.fromkeys(heads, curve),
        chosen=2,
        answered=answered(heads, rows, text),
        importance=importance(sides, heads),
        built=SimpleNamespace(shapes=dict.fromkeys((*made.layers, *heads), (64,))),
    )
    verified = SimpleNamespace(differences=dict.fromkeys(heads, 2e-7))
    told = [SimpleNamespace(message=text, code="code") for text in warnings]
    return report.page(made, fitted, verified, told, sides).decode()
