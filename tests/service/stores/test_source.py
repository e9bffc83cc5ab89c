"""The sources that `triceps pull` takes, the names that they give, and what is shown of them."""

import pytest

from service.stores import source


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        ("file:///mnt/share/churn", "churn", None),
        ("file:///mnt/share/churn/4", "churn", "4"),
        ("file:///mnt/share/churn/4/model.onnx", "churn", "4"),
        ("file:///mnt/share/churn/model.onnx", "churn", None),
        ("file:///mnt/share/best%20one.onnx", "best_one", None),
        ("https://models.example/churn/model.onnx?sig=1", "churn", None),
        ("https://models.example/churn.onnx", "churn", None),
        ("https://models.example/model.onnx", "model", None),
        ("s3://models/churn/", "churn", None),
        ("s3://churn", "churn", None),
        ("az://models/churn", "churn", None),
        ("s3://models/7", "models", "7"),
        ("s3://models/churn/04", "04", None),
        ("oci://registry.example:5000/team/churn", "churn", None),
        ("mlflow:a%20churn/4", "a_churn", None),
        ("mlflow:churn@champion", "churn", None),
        ("oci://registry.example/churn:stable", "churn", None),
        ("oci://registry.example/churn:4", "churn", "4"),
        (f"oci://registry.example/churn:4@sha256:{'0' * 64}", "churn", "4"),
    ],
)
def test_the_name_and_the_number_are_those_of_the_path(text, name, number):
    """They are read as in a repository: <name>/<version>/model.onnx."""
    parsed = source.parse(text)

    assert (parsed.name, parsed.number) == (name, number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models/churn", "received a path"),
        ("s3a://models/churn", "received 's3a' (did you mean 's3'?)"),
        ("ftp://host/model.onnx", "received 'ftp'"),
        ("http://host/model.onnx", "expected https, received http"),
        ("https:///model.onnx", "expected the name of a host or bucket"),
        ("https://host:port/model.onnx", "received something else"),
        ("https://[::1/model.onnx", "received something else"),
        ("s3:///churn", "expected the name of a host or bucket"),
        ("s3://key:secret@models/churn", "credentials come from the environment"),
        ("s3://models/churn?versionId=3", "expected s3://… without a password or a query"),
        ("oci://registry.example/", "expected oci://registry/image:tag"),
        ("oci://registry.example/a/../b", "expected oci://registry/image:tag"),
        ("oci://registry.example/churn@sha256:1", "expected oci://registry/image:tag"),
        ("oci://me:secret@registry.example/churn", "without a password or a query"),
        ("mlflow:", "expected mlflow:MODEL"),
        ("mlflow://host/churn", "expected mlflow:MODEL"),
        ("mlflow:churn/4/5", "expected mlflow:MODEL"),
        ("file://host/churn", "with a whole path"),
        ("", "received a path"),
    ],
)
def test_another_source_is_refused_by_its_mistake(text, message):
    """The command was used wrongly; no secret is in the message."""
    with pytest.raises(source.WrongSource) as raised:
        source.parse(text)

    assert message in str(raised.value)
    assert not str(raised.value).startswith(":")
    assert "secret" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_path_that_exists_is_named_as_a_source(tmp_path):
    """The way out is the whole URL."""
    with pytest.raises(source.WrongSource) as raised:
        source.parse(str(tmp_path))

    assert f"(did you mean file://{tmp_path}?)" in str(raised.value)


def test_http_is_taken_with_a_digest():
    """The content is certain then, whoever changes it on the way."""
    assert source.parse("http://host/churn/model.onnx", is_pinned=True).name == "churn"


def test_secrets_are_not_shown():
    """Passwords and signatures stay out of logs and of the provenance."""
    parsed = source.parse("https://me:pass@host:8443/churn/model.onnx?X-Signature=abc#part")

    assert parsed.shown == "https://host:8443/churn/model.onnx"
