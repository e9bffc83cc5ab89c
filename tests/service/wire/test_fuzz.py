"""Malformed bodies: every reader either reads them or refuses them, within bounds."""

from __future__ import annotations

import json
import os
from random import Random, SystemRandom
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.wire.body import wrong
from service.wire.oip.request import DATATYPES
from tests import fuzz
from tests.harness import bodies
from tests.harness.bodies import LENGTH, Body
from tests.harness.native_bodies import bodies as native_bodies

# As with hypothesis, every run of CI takes the same bodies, and other runs take new ones.
SEED = 0 if "CI" in os.environ else SystemRandom().randrange(10**6)
SECONDS = 6.0


def check(body: Body) -> bool:
    """Run `fuzz.check` with warnings as errors."""
    with fuzz.surroundings():
        return fuzz.check(body)


@pytest.mark.parametrize("path", fuzz.corpus(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_bodies_of_the_corpus_are_as_they_are_kept(path):
    """Good bodies are answered, bad ones are refused, and those that once failed are right now."""
    decoded = check(bodies.unpack(path.read_bytes()))

    assert path.parent.name == "found" or decoded == (path.parent.name == "good")


def test_every_form_has_a_body_in_the_corpus():
    """Every form has a good body, against which a new reader can be tested."""
    three = fuzz.targets()["three"]
    forms = {called for called, _ in bodies.every("three", three.signature, Random(0))}
    forms |= {"native-bare", "oip-alone"}
    kept = {path.stem.rpartition("-")[0] for path in fuzz.corpus() if path.parent.name == "good"}

    assert forms <= kept


def test_a_file_of_the_corpus_is_the_body_it_was():
    """A body survives packing and unpacking, whatever its bytes."""
    body = Body("oip", "three", ((LENGTH, "2"), ("A", "")), b"{}\n\n\r\n\x00\xff")

    assert bodies.unpack(bodies.pack(body)) == body


def test_a_seeded_mutator_finds_nothing():
    """A short run of the mutator of `python -m tests.fuzz` finds no fault."""

    def fail(failed: fuzz.Failed) -> None:
        raise failed

    done, decoded = fuzz.run(SEED, fuzz.until(SECONDS), fail)

    assert done > 1000
    assert decoded > done / 20


def test_the_same_seed_gives_the_same_bodies():
    """A seed and a number reproduce a body."""
    first = [fuzz.body_of(3, number) for number in range(50)]

    assert first == [fuzz.body_of(3, number) for number in range(50)]
    assert first != [fuzz.body_of(4, number) for number in range(50)]


def test_a_failure_is_kept_with_the_command_to_repeat_it(tmp_path, monkeypatch):
    """A failure becomes a file of the corpus, and its message gives the command to repeat it."""
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    failures: list[fuzz.Failed] = []

    def refuse(body: Body) -> bool:
        raise fuzz.Fault(body.form)

    monkeypatch.setattr(fuzz, "check", refuse)
    done, decoded = fuzz.run(1, iter([7]), failures.append)

    (kept,) = (tmp_path / "corpus" / "found").iterdir()
    assert (done, decoded) == (1, 0)
    assert bodies.unpack(kept.read_bytes()) == fuzz.body_of(1, 7)
    assert str(failures[0]).startswith("body 7 of seed 1: Fault: ")
    assert f"python -m tests.fuzz corpus/found/{kept.name}" in str(failures[0])


def test_two_readers_that_differ_are_reported(monkeypatch):
    """The check reports a fast reader that disagrees with its reference reader."""
    body = bodies.unpack((fuzz.CORPUS / "good" / "native-rows-three.body").read_bytes())

    def refuse(*_: Any) -> Any:
        raise wrong("body", "another", "this")

    monkeypatch.setitem(fuzz.targets()["three"].others, "native", refuse)

    with pytest.raises(fuzz.Fault, match="the two paths of native differ"):
        fuzz.check(body)


def test_a_slow_answer_is_reported(monkeypatch):
    """The check reports a body that takes too much CPU time."""
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.0)

    with pytest.raises(fuzz.Fault, match="s of CPU"):
        check(fuzz.body_of(0, 0))


# Bodies that hypothesis builds from the keys of each dialect, and shrinks where they fail.

leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(-3, 5), st.floats(), st.text(max_size=3)),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 1e39, 1e308, 0.5, "yes", "1", "NaN"]),
)


def values(names: list[str]) -> st.SearchStrategy[Any]:
    """Draw any JSON value; some of its keys are names of the model."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(names), inner, max_size=4)
        ),
        max_leaves=12,
    )


def _tensors(model: str) -> st.SearchStrategy[Any]:
    """Draw the inputs of an Open Inference Protocol request, most of them nearly right."""
    tensors = fuzz.targets()[model].tensors
    axes = st.one_of(st.integers(0, 4), st.sampled_from([-1, 10**9, 2**62, 2**63]), leaves)
    return st.lists(
        st.sampled_from(list(tensors.values())).flatmap(
            lambda tensor: st.fixed_dictionaries(
                {
                    "name": st.just(tensor.name),
                    "datatype": st.one_of(st.just(DATATYPES[tensor.dtype]), leaves),
                    "shape": st.one_of(
                        st.lists(axes, min_size=len(tensor.shape) + 1, max_size=3),
                        st.just([1, *(axis or 0 for axis in tensor.shape)]),
                    ),
                },
                optional={
                    "data": st.one_of(
                        st.lists(leaves, max_size=5),
                        st.lists(st.integers(0, 3), min_size=4, max_size=4),
                        st.lists(st.lists(leaves, max_size=4), max_size=3),
                    ),
                    "parameters": st.dictionaries(
                        st.sampled_from(["binary_data_size", "x"]), leaves, max_size=2
                    ),
                },
            )
        ),
        max_size=len(tensors) + 1,
    )


MODELS = ["three", "plant", "ragged", "ragged_twice", "logs", "string", "int8", "bool", "scalar"]


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_made_up_tensors_are_read_alike(model, data):
    """Both readers agree on Open Inference Protocol requests, with binary data and without."""
    heads = list(fuzz.targets()[model].signature.heads)
    output = st.fixed_dictionaries(
        {"name": st.sampled_from([*heads, "x"])},
        optional={
            "parameters": st.dictionaries(
                st.sampled_from(["classification", "binary_data"]), leaves, max_size=2
            )
        },
    )
    body = data.draw(
        st.fixed_dictionaries(
            {"inputs": _tensors(model)},
            optional={
                "outputs": st.lists(output, max_size=3),
                "id": leaves,
                "parameters": st.just({"binary_data_output": True}),
            },
        )
    )
    head = json.dumps(body).encode()
    tail = data.draw(st.one_of(st.just(b""), st.binary(max_size=16)))
    headers = ((LENGTH, str(len(head))),) if tail else ()

    check(Body("oip", model, headers, head + tail))


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_made_up_rows_are_answered_or_refused(model, data):
    """Every dialect of rows reads or refuses rows, also those with keys of other dialects."""
    target = fuzz.targets()[model]
    names = [*target.signature.inputs, *target.tensors, *target.signature.heads, "b64", "x.0", "0"]
    words = ["instances", "inputs", "examples", "dataframe_split", "dataframe_records"]
    inner = values([*names, "columns", "data", "index"])
    body = data.draw(
        st.one_of(
            native_bodies(target.signature),
            st.dictionaries(st.sampled_from(words), inner, min_size=1, max_size=2),
            st.fixed_dictionaries(
                {
                    "dataframe_split": st.fixed_dictionaries(
                        {
                            "columns": st.lists(st.sampled_from(names), max_size=4),
                            "data": st.lists(st.lists(leaves, max_size=4), max_size=3),
                        }
                    )
                }
            ),
        )
    )
    for form in ("native", "predict", "classify", "regress", "mlflow"):
        check(Body(form, model, (), json.dumps(body).encode()))


@pytest.mark.parametrize("form", bodies.FORMS)
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=False))
def test_mutated_bodies_are_answered_or_refused(form, random):
    """The mutator finds no fault when hypothesis makes its choices."""
    every = [body for body in fuzz.seeds() if body.form == form]

    check(bodies.mutate(random.choice(every), every, random))
