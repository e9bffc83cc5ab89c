"""No entry of the table of operators is wrong: what it proves is run, and rows are alone.

The guard of the whole of it: an operator for which a proof holds that ONNX Runtime does not keep
would let one caller's rows into another's answer.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from service.inference.independence.operators import MICROSOFT, ML, RULES
from service.inference.independence.proof import NoProof, follow
from service.inference.independence.values import Size, divide
from tests.service.inference.independence import operator_cases as cases
from tests.service.inference.independence.operator_cases import ROWS, Graph

onnxruntime.set_default_logger_severity(4)

EXAMPLES = 60
SEEDS = 10
CHAINS = 300
LONGEST = 4
LARGE = 10_000
NUDGES = 20
SETTINGS = {"suppress_health_check": list(HealthCheck), "database": None}
# ONNX Runtime 1.32 has no kernel for floats of these on processors, so that nothing is served.
UNTRIED = {("", "CumProd"), ("", "Swish"), ("", "RMSNormalization"), ("", "BitCast")}
# Those that are in one operator set, so that they may stand behind each other.
OTHER_SETS = {"CategoryMapper", "CumProd", "GroupNormalization", "RMSNormalization", "Swish"}
OTHER_SETS |= {"Gelu", "RegexFullMatch", "StringConcat", "TreeEnsemble", "Upsample"}
CHAINED = sorted((domain, op) for domain, op in RULES if op not in OTHER_SETS)


def made(graph, output):
    """The model of a graph, with one head."""
    inputs = [
        helper.make_tensor_value_info(name, dtype, ["n", *lengths])
        for name, (dtype, lengths, _) in graph.inputs.items()
    ]
    body = helper.make_graph(
        graph.nodes,
        "one",
        inputs,
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    tree = any(node.op_type == "TreeEnsemble" for node in graph.nodes)
    opsets = [
        helper.make_opsetid("", graph.version),
        helper.make_opsetid(ML, 5 if tree else 1 if _is_old(graph) else 3),
        helper.make_opsetid(MICROSOFT, 1),
    ]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def _is_old(graph):
    return any(node.op_type == "CategoryMapper" for node in graph.nodes)


def started(model):
    """A session, or `None` where ONNX Runtime takes no such graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:  # noqa: BLE001  whatever it says, nothing is run
        return None


def run(session, feeds):
    """The head, or `None` where ONNX Runtime does not answer."""
    try:
        return session.run(None, feeds)[0]
    except Exception:  # noqa: BLE001  whatever it says, nobody is answered
        return None


def rows_of(array, value, row):
    """One row's part of what came of a batch."""
    each = divide(value.shape[value.axis], Size(1, ("rows",)))
    if isinstance(each, Size):
        return None
    assert array.ndim == len(value.shape)
    places = range(row * each, (row + 1) * each)
    return array.take(places, axis=value.axis)


def equal(one, other):
    """Whether they are, but for the last digits."""
    if one.shape != other.shape or one.dtype.kind not in "fc":
        return one.shape == other.shape and bool((one == other).all())
    size = np.abs(other[np.isfinite(other)]).max(initial=1e-6)
    return np.allclose(one, other, rtol=1e-4, atol=1e-5 * size, equal_nan=True)


def is_rounding(session, feeds, value, part):
    """Whether a row's own answers, of inputs that differ in their last digits, reach to `part`.

    The kernels round otherwise for more rows, and an operator behind them, such as `Floor` of what
    is nearly whole, or `Div` by what is nearly nothing, makes that large.
    """
    random = np.random.default_rng(0)
    came = []
    for _ in range(NUDGES):
        nudged = {n: a * (1 + 1e-6 * random.normal(size=a.shape)) for n, a in feeds.items()}
        answer = run(session, {n: a.astype(np.float32) for n, a in nudged.items()})
        own = None if answer is None else rows_of(answer, value, 0)
        if own is not None and own.shape == part.shape:
            came.append(own.astype(np.float64))
    if not came or part.dtype.kind in "SUO":
        return False
    least, most = np.min(came, axis=0), np.max(came, axis=0)
    spread = most - least
    near = (least - spread <= part) & (part <= most + spread)
    return bool((near | (np.isnan(part) & np.isnan(least))).all())


def check(graph, output, proofs):
    """Hold rows together against the same rows alone, if there is a proof.

    Returns:
        What came of the rows together, and where they lie; `None` where there is no proof.
    """
    model = made(graph, output)
    session = started(model)
    if session is None:
        return None
    try:
        value = follow(model)[0].get(output)
    except NoProof:
        return None
    assert value is not None
    if value.axis is None:
        return None
    random = np.random.default_rng(0)
    feeds = {
        name: random.normal(size=(ROWS, *lengths)).astype(np.float32)
        for name, (_, lengths, _) in graph.inputs.items()
    }
    extreme = {
        name: np.concatenate([array[:1], 1e3 * array[1:2], array[2:3], -1e4 * array[3:]])
        for name, array in feeds.items()
    }
    # 0 times such a neighbour is no number either.
    infinite = {
        name: np.concatenate(
            [
                array[:1],
                np.full_like(array[1:2], np.nan),
                array[2:3],
                np.full_like(array[3:], np.inf),
            ]
        )
        for name, array in feeds.items()
    }
    for batch, tried in ((feeds, range(ROWS)), (extreme, (0, 2)), (infinite, (0, 2))):
        together = run(session, batch)
        if together is None:
            continue
        for row in tried:
            feeds_alone = {n: a[row : row + 1] for n, a in batch.items()}
            alone = run(session, feeds_alone)
            if alone is None:
                continue
            part, whole = rows_of(together, value, row), rows_of(alone, value, 0)
            if part is None:
                continue
            for place, length in enumerate(value.shape):
                if isinstance(length, int):
                    assert together.shape[place] == length, (place, value.shape, together.shape)
            proofs["held"] += 1
            same = equal(part, whole) or is_rounding(session, feeds_alone, value, part)
            assert same, (row, part, whole)
    together = run(session, feeds)
    return None if together is None else (together, value.axis)


@pytest.mark.parametrize(("domain", "op"), sorted(RULES), ids=str)
def test_what_is_proven_holds(domain, op):
    """Of every operator, in whatever way it is used: a proof, or none."""
    proofs = Counter()

    @settings(max_examples=EXAMPLES, **SETTINGS)
    @given(st.data())
    def tried(data):
        graph = Graph(data)
        check(graph, added(graph, domain, op), proofs)

    # Always the same examples, and more of them until one holds: of some operators few do.
    for number in range(SEEDS):
        seed(number)(tried)()
        if proofs["held"]:
            break

    assert proofs["held"] or (domain, op) in UNTRIED


def added(graph, domain, op):
    """Add an operator and whatever it needs; its output."""
    if (domain, op) == (MICROSOFT, "Gelu"):
        return graph.add("Gelu", [graph.rows()[0]], MICROSOFT)
    make = cases.BY_NAME.get(op) or cases.BY_RULE[RULES[domain, op].__name__]
    return make(graph, op)


@settings(max_examples=CHAINS, **SETTINGS)
@given(st.data())
def test_what_is_proven_of_several_holds(data):
    """Operators behind each other, each on what those before have made; other ones each time."""
    graph, proofs = Graph(data), Counter()
    for _ in range(LONGEST):
        domain, op = graph.one_of(*CHAINED)
        output = added(graph, domain, op)
        graph.version = 18
        came = check(graph, output, proofs)
        if came is None:
            return
        together, axis = came
        if together.dtype == np.float32 and 0 < together.size < LARGE:
            graph.before.append((output, list(together.shape), axis))
