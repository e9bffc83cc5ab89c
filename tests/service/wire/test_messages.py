"""The messages of the gRPC protocols, and the compiled definitions that they come from.

`python tests/service/wire/test_messages.py` compiles the definitions again.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import any_pb2, descriptor_pool, json_format, wrappers_pb2

from service.wire.messages import COMPILED, POOL, PROTOS, SERVICES, message_class


def compile_into(path):
    """Compile all definitions into one file."""
    files = [file.relative_to(PROTOS).as_posix() for file in sorted(PROTOS.rglob("*.proto"))]
    options = [f"-I{PROTOS}", "--fatal_warnings", f"--descriptor_set_out={path}"]
    # In a process of its own: the compiler crashes beside TensorFlow, which has another protobuf.
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True)


def test_the_compiled_definitions_are_fresh(tmp_path):
    """The committed file is what the locked compiler makes of the definitions."""
    compile_into(tmp_path / "fresh.binpb")

    assert (tmp_path / "fresh.binpb").read_bytes() == COMPILED.read_bytes(), (
        "service/wire/protos has changed: python tests/service/wire/test_messages.py"
    )


def test_all_services_are_there():
    """The services are those that the page of the protocols lists."""
    assert set(SERVICES) == {
        *("inference.GRPCInferenceService", "grpc.health.v1.Health"),
        *(f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")),
        *(f"tensorflow.serving.{name}" for name in ("ModelService", "PredictionService")),
    }
    for name in SERVICES:
        assert POOL.FindServiceByName(name).methods


def test_the_default_pool_has_none_of_them():
    """Another library of the process may define the same names."""
    for name in ("inference.ModelInferRequest", "grpc.health.v1.HealthCheckRequest"):
        assert message_class(name).DESCRIPTOR.full_name == name
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(name)


def test_a_message_is_one_class():
    """A second call returns the same class, and an unknown name is an error."""
    name = "tensorflow.serving.PredictRequest"

    assert message_class(name) is message_class(name)
    with pytest.raises(KeyError):
        message_class("inference.Nothing")


def test_messages_are_read_and_written_as_json():
    """The pages of REST become messages: names in underscores, enums by name, and any message."""
    status = message_class("tensorflow.serving.GetModelStatusResponse")()
    entry = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK"}}
    json_format.ParseDict({"model_version_status": [entry]}, status, descriptor_pool=POOL)
    metadata = message_class("tensorflow.serving.GetModelMetadataResponse")()
    definitions = message_class("tensorflow.serving.SignatureDefMap")()
    definitions.signature_def["serving_default"].inputs["x"].tensor_shape.dim.add(size=-1)
    metadata.model_spec.version.value = 3
    metadata.metadata["signature_def"].Pack(definitions)

    assert (status.model_version_status[0].version, status.model_version_status[0].state) == (3, 30)
    said = json_format.MessageToDict(
        metadata, preserving_proto_field_name=True, descriptor_pool=POOL
    )
    assert said == {
        "model_spec": {"version": "3"},
        "metadata": {
            "signature_def": {
                "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                "signature_def": {
                    "serving_default": {
                        "inputs": {"x": {"tensor_shape": {"dim": [{"size": "-1"}]}}}
                    }
                },
            }
        },
    }


@pytest.mark.parametrize("theirs", [any_pb2.Any, wrappers_pb2.Int64Value])
def test_types_of_protobuf_itself_have_its_fields(theirs):
    """The definitions of Any and Int64Value have the fields of protobuf's own."""
    ours = message_class(theirs.DESCRIPTOR.full_name).DESCRIPTOR

    assert _fields(ours) == _fields(theirs.DESCRIPTOR)


TENSORFLOW = (
    "TensorProto",
    "TensorShapeProto",
    "TensorShapeProto.Dim",
    "SignatureDef",
    "TensorInfo",
)


@pytest.mark.keras
@pytest.mark.parametrize("name", TENSORFLOW)
def test_fields_are_those_of_tensorflow(name):
    """Each field of a definition has the number and the type that it has in TensorFlow."""
    from tensorflow.core.protobuf import meta_graph_pb2

    pool = meta_graph_pb2.DESCRIPTOR.pool
    ours, theirs = (each.FindMessageTypeByName(f"tensorflow.{name}") for each in (POOL, pool))
    types = (_values(each.FindEnumTypeByName("tensorflow.DataType")) for each in (POOL, pool))

    assert _fields(ours).items() <= _fields(theirs).items()
    assert set.issubset(*types)


def _values(enum):
    """Return the names and numbers of an enum."""
    return {(value.name, value.number) for value in enum.values}


def _fields(descriptor):
    """Return the name, type and repetition of each field, by number."""
    return {
        field.number: (
            field.name,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.full_name,
        )
        for field in descriptor.fields
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    compile_into(COMPILED)
