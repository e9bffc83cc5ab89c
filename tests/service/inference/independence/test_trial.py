"""Trials of graphs whose operators prove nothing, and the limits of trials."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from service.commands.main import main
from service.inference.independence import trial
from service.inference.model import Model
from tests.harness import mixers, small
from tests.harness.small import F, model

X, Y = ("x", F, ["n", 4]), ("y", F, ["n", 4])


def looped(*inside, constants=None, more=()):
    """Return a graph whose only operator is a loop that runs twice, which no rule covers."""
    step = helper.make_node("Add", ["before", "change"], ["after"])
    body = helper.make_graph(
        [*inside, step, helper.make_node("Identity", ["going"], ["goes"])],
        "body",
        [
            helper.make_tensor_value_info("number", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("going", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", F, None),
        ],
        [
            helper.make_tensor_value_info("goes", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", F, None),
        ],
    )
    loop = helper.make_node("Loop", ["twice", "", "x"], ["y"], body=body)
    constants = {"twice": np.array(2), "zero": np.array([0]), **(constants or {})}
    return model([loop, *more], [X], [Y], constants)


def batching(graph):
    """Return the batching mode of a graph and its evidence."""
    return Model.load(graph.SerializeToString()).batching


def test_rows_that_have_the_same_answers_run_together():
    """The trial runs rows alone, together, in another order and beside extreme rows."""
    verdict = batching(looped(helper.make_node("Tanh", ["before"], ["change"])))

    assert (verdict.mode, verdict.evidence) == ("rows", "trial")
    assert verdict.reason == (
        "rows had the same answers alone, together and beside extreme ones; "
        "Loop 'y' has a graph of its own, which is not followed"
    )


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(
            [helper.make_node("ReduceMean", ["before", "zero"], ["change"])], id="their mean"
        ),
        pytest.param([helper.make_node("ReduceMax", ["before"], ["change"])], id="the largest"),
        pytest.param(
            [
                helper.make_node("ReduceMax", ["before"], ["most"]),
                helper.make_node("Mul", ["most", "little"], ["change"]),
            ],
            id="a millionth of the largest",
        ),
        pytest.param([helper.make_node("Softmax", ["before"], ["change"], axis=0)], id="a softmax"),
    ],
)
def test_the_trial_finds_rows_that_mix(inside):
    """The message names the head and the change to its rows."""
    verdict = batching(looped(*inside, constants={"little": np.float32(1e-6)}))

    assert (verdict.mode, verdict.evidence) == ("joint", "trial")
    assert "; in a trial, head 'y' answers a row differently " in verdict.reason


def test_a_mixing_operator_in_a_branch_needs_no_trial():
    """An operator that quantizes by the whole batch is recognized wherever it stands."""
    quantized = [
        helper.make_node("DynamicQuantizeLinear", ["before"], ["q", "scale", "point"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "point"], ["change"]),
    ]

    verdict = batching(looped(*quantized))

    assert (verdict.mode, verdict.evidence) == ("joint", "operators")
    assert "DynamicQuantizeLinear 'q' takes its scale from the whole batch" in verdict.reason


def test_an_inconclusive_trial_proves_nothing():
    """A trial proves nothing if all answers are equal, or if first axes have different names."""
    same = looped(
        helper.make_node("Mul", ["before", "minus"], ["change"]),
        constants={"minus": np.float32(-1)},
    )
    two = looped(helper.make_node("Tanh", ["before"], ["change"]))
    other = two.graph.input.add()
    other.CopyFrom(helper.make_tensor_value_info("q", F, ["k", 4]))
    two.graph.node.add().CopyFrom(helper.make_node("Tanh", ["q"], ["z"]))
    two.graph.output.add().CopyFrom(helper.make_tensor_value_info("z", F, ["k", 4]))

    assert batching(same).mode == "joint"
    assert "has the same answer for all rows that were tried" in batching(same).reason
    assert batching(two).mode == "joint"
    assert "first axes have different names ('n', 'k')" in batching(two).reason


def test_a_trial_that_takes_too_long_proves_nothing(monkeypatch):
    """Loading a model ends in time, however slow its runs are."""
    monkeypatch.setattr(trial, "MOST_SECONDS", -1.0)

    verdict = batching(looped(helper.make_node("Tanh", ["before"], ["change"])))

    assert verdict.mode == "joint"
    assert verdict.reason.endswith("; in a trial, a trial of its rows takes too long")


def test_scoring_a_file_runs_rows_that_depend_on_each_other_whole(tmp_path):
    """A file is scored in one run, as a request is, and refused if it does not fit."""
    file, rows = tmp_path / "centred.onnx", tmp_path / "rows.csv"
    file.write_bytes(mixers.centred().SerializeToString())
    header = ",".join(f"x.{i}" for i in range(4))

    def score(count):
        rows.write_text("\n".join([header, *(f"{i},0,0,0" for i in range(count))]) + "\n")
        return CliRunner().invoke(main, ["predict", str(file), "--in", str(rows)])

    fits, large = score(301), score(4097)

    values = [float(line.split(",")[0]) for line in fits.stdout.splitlines()[1:302]]
    assert values == [i - 150.0 for i in range(301)]
    assert large.exit_code != 0


def test_a_row_is_a_row_of_every_kind():
    """A trial draws strings, integers and booleans too."""
    for content in small.every().values():
        assert Model.load(content).batching.mode in ("rows", "alone")
