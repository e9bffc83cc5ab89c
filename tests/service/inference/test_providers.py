"""Execution providers: refused by name where they are not there, and proven against the CPU.

AzureExecutionProvider stands for any other provider: every package of ONNX Runtime has it, it sets
up without anything else, and the CPU's kernels compute its nodes.
"""

from time import perf_counter, thread_time

import onnxruntime
import pytest
from onnx import TensorProto, helper

from service.app import create_app
from service.errors import ModelRefused
from service.inference import provider_proof
from service.inference.execution import FULL, REDUCED, Execution
from service.inference.lane import Lane
from service.inference.model import Model
from service.repository.reloader import Library
from service.settings import Settings
from tests.harness import mixers, small

OTHER = "AzureExecutionProvider"
F = TensorProto.FLOAT


@pytest.fixture
def models(tmp_path):
    """Return a repository of one model."""
    small.put(tmp_path, "three", 1, small.three())
    return tmp_path


def refusal(content, execution):
    """Return why a model is refused with an execution."""
    with pytest.raises(ModelRefused) as raised:
        Model.load(content, execution)
    return str(raised.value)


@pytest.mark.parametrize(
    ("provider", "close"),
    [
        ("CUDAExecutionProvider", ""),
        ("AzurExecutionProvider", f" (did you mean '{OTHER}'?)"),
    ],
)
def test_a_provider_that_is_not_there_refuses_the_model(provider, close):
    """The message has the providers that are there, and the nearest of them."""
    known = " or ".join(onnxruntime.get_available_providers())

    assert refusal(small.three(), Execution(provider=provider)) == (
        f"provider: expected one that this ONNX Runtime has, {known}, received {provider!r}{close}"
    )


def test_a_provider_that_cannot_be_set_up_refuses_the_model(monkeypatch):
    """ONNX Runtime would run the model on the CPU, and say so in no exception."""
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "get_providers", lambda _: ["CPUExecutionProvider"]
    )

    assert refusal(small.three(), Execution(provider=OTHER, options=(("device", "7"),))) == (
        f"provider: expected {OTHER} (device = '7'), which ONNX Runtime cannot set up here; it "
        "would run the model on CPUExecutionProvider"
    )


def test_rows_share_runs_of_another_provider_only_after_a_trial():
    """What operators prove holds for the CPU's kernels."""
    cpu, other = Model.load(small.three()), Model.load(small.three(), Execution(provider=OTHER))
    joint = Model.load(mixers.centred().SerializeToString(), Execution(provider=OTHER))

    assert (cpu.batching.mode, cpu.batching.evidence) == ("rows", "operators")
    assert (other.batching.mode, other.batching.evidence) == ("rows", "trial")
    assert other.batching.reason.endswith(f"; {OTHER} has kernels of its own")
    assert other.difference == 0.0
    assert joint.batching.mode == "joint"


def test_a_provider_is_compared_with_the_cpu_in_golden_and_random_rows():
    """A head that differs by more than the precision allows refuses the model, by name."""
    cpu = Model.load(small.three(golden=False))
    other = Model.load(small.three(1.001, golden=False), Execution(provider=OTHER))
    with pytest.raises(ModelRefused) as raised:
        provider_proof.compare(other, cpu)
    other.execution = Execution(provider=OTHER, options=(("precision", "FP16"),))

    assert str(raised.value).startswith(
        f"head 'size' has other answers on {OTHER} than on the CPU: expected a difference of at "
        "most 0.0001, found 0.001; a lower precision has to be asked for"
    )
    assert provider_proof.compare(other, cpu) == pytest.approx(0.001, rel=0.01)


def test_a_provider_that_fails_where_the_cpu_answers_is_refused(monkeypatch):
    """The message has the provider's own reason."""
    cpu, other = Model.load(small.three()), Model.load(small.three(), Execution(provider=OTHER))

    def fails(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(other, "predict", fails)
    with pytest.raises(ModelRefused, match=f"{OTHER} fails on rows that .*: no such kernel"):
        provider_proof.compare(other, cpu)


def test_a_provider_is_not_believed_without_rows_to_compare(monkeypatch):
    """Nothing would show that its answers are right."""
    cpu, other = Model.load(small.three()), Model.load(small.three(), Execution(provider=OTHER))
    monkeypatch.setattr(cpu, "predict", lambda *_: 1 / 0)

    with pytest.raises(ModelRefused, match="no rows are known that the CPU answers"):
        provider_proof.compare(other, cpu)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, FULL),
        ({"device_id": "0"}, FULL),
        ({"use_tf32": "0"}, FULL),
        ({"use_tf32": "1"}, REDUCED),
        ({"precision": "FP16"}, REDUCED),
        ({"precision": "FP32"}, FULL),
        ({"trt_fp16_enable": "True"}, REDUCED),
        ({"trt_fp16_enable": "False"}, FULL),
        ({"trt_int8_enable": "1"}, FULL),
        ({"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}'}, REDUCED),
    ],
)
def test_the_tolerance_follows_the_precision_that_is_asked_for(options, tolerance):
    """A provider that computes with fewer digits by itself is refused, as it would be unnoticed."""
    assert Execution(provider=OTHER, options=tuple(options.items())).tolerance == tolerance


def test_runs_of_another_provider_are_timed_by_the_clock():
    """Its work is not in the processor time of the thread that waits for it."""
    cpu, other = Model.load(small.three()), Model.load(small.three(), Execution(provider=OTHER))

    assert (Lane(cpu).clock, Lane(other).clock) == (thread_time, perf_counter)


def test_the_provider_of_a_model_is_on_its_page_and_in_the_metrics(models):
    """A change of the file loads the model anew, and takes effect without a restart."""
    settings = Settings(models=models)
    library = Library.of(settings)
    client = create_app(settings, library=library).test_client()
    before = client.get("/models/three").json
    (models / "three" / "settings.toml").write_text(f'provider = "{OTHER}"')
    library.refresh()
    after = client.get("/models/three").json
    metrics = client.get("/metrics").text

    assert "provider" not in before
    assert after["provider"] == {"name": OTHER, "difference": 0.0}
    assert after["settings"] == {"provider": OTHER}
    assert (
        f'triceps_provider_difference{{model="three",provider="{OTHER}",version="1"}} 0.0'
        in metrics
    )


def test_the_provider_of_the_service_is_for_models_that_name_none(models):
    """A model's own file takes precedence, and versions on demand have it, too."""
    small.put(models, "three", 2, small.three())
    small.put(models, "own", 1, small.plant())
    (models / "own" / "settings.toml").write_text('provider = "CPUExecutionProvider"')

    library = Library.of(Settings(models=models, provider=OTHER))

    executions = [
        library.find(*key).model.execution for key in (("three",), ("three", "1"), ("own",))
    ]
    assert [execution.provider for execution in executions] == [
        OTHER,
        OTHER,
        "CPUExecutionProvider",
    ]


def test_a_provider_that_cannot_be_used_leaves_what_was_loaded(models):
    """At the start there is nothing else, so the model is not served; the CPU is no substitute."""
    library = Library(models)
    (models / "three" / "settings.toml").write_text('provider = "CUDAExecutionProvider"')
    library.refresh()
    started = Library(models)

    assert library.find("three").model.execution.is_cpu
    assert started.current.serving == {}
    for each in (library, started):
        [refused] = each.current.refused
        assert refused.reason.startswith("provider: expected one that this ONNX Runtime has, ")


def test_options_reach_the_session(models, monkeypatch):
    """They are handed to ONNX Runtime as they are."""
    seen = []
    real = onnxruntime.InferenceSession.__init__

    def begin(self, *given, **more):
        seen.append(more["providers"])
        real(self, *given, **more)

    monkeypatch.setattr(onnxruntime.InferenceSession, "__init__", begin)
    text = f'provider = "{OTHER}"\n[provider_options]\ndevice_id = "1"\n'
    (models / "three" / "settings.toml").write_text(text)
    Library(models)

    assert seen[0] == [(OTHER, {"device_id": "1"})]


def test_whole_tensors_are_compared_too():
    """A graph without rows is compared at zeros."""
    graph = small.model(
        [helper.make_node("Add", ["x", "x"], ["y"])], [("x", F, [])], [("y", F, [])]
    )
    model = Model.load(graph.SerializeToString(), Execution(provider=OTHER))

    assert model.batching.mode == "tensor"
    assert model.difference == 0.0
