"""The page of a version's report: inert, and never a file from outside of the repository."""

import pytest

from service.app import create_app
from service.repository.publish import REPORT, publish
from service.settings import Settings
from tests.harness import small

PATH = "/models/three/versions/1/report"


@pytest.fixture(name="repository")
def _repository(tmp_path):
    """Return a repository with a model, its report, and a view."""
    models = tmp_path / "models"
    publish(models, "three", small.three(models={"risky": ["risk"]}), b"<!doctype html>seen")
    return models


def _get(repository, path=PATH):
    return create_app(Settings(models=repository)).test_client().get(path)


def test_report_is_served_inert(repository):
    """It is HTML that may neither run nor fetch anything."""
    answer = _get(repository)

    assert (answer.status_code, answer.data) == (200, b"<!doctype html>seen")
    assert answer.content_type == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith("sandbox")


def test_page_of_a_model_has_the_versions_with_a_report(repository):
    """A view has none, since its model's is not for its clients."""
    publish(repository, "three", small.three(models={"risky": ["risk"]}))

    assert _get(repository, "/models/three").json["reports"] == ["1"]
    assert _get(repository, "/models/three/versions/2").json["reports"] == ["1"]
    assert _get(repository, "/models/risky").json["reports"] == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("/models/three/versions/9/report", "has no version", id="version"),
        pytest.param("/models/risky/versions/1/report", "a view has no report", id="view"),
    ],
)
def test_what_is_not_there_is_404(repository, path, reason):
    """The answer says why."""
    answer = _get(repository, path)

    assert answer.status_code == 404
    assert reason in answer.text


def test_model_without_a_report(repository):
    """The answer says where reports come from."""
    (repository / "three/1" / REPORT).unlink()

    answer = _get(repository)

    assert answer.status_code == 404
    assert "triceps train alone publishes one" in answer.text


def test_version_that_was_signed_later_has_no_report(repository):
    """The answer does not claim that training left it out, and says what can be done."""
    publish(repository, "three", small.three())

    answer = _get(repository, PATH.replace("1", "2"))

    assert answer.status_code == 404
    assert "with the version that it trains" in answer.text
    assert "triceps report MODEL --on FILE.csv" in answer.text


def test_a_single_file_has_no_report_of_others(tmp_path):
    """A page of that name beside any file, such as one in a folder of downloads, is not its own."""
    (tmp_path / "three.onnx").write_bytes(small.three())
    (tmp_path / REPORT).write_text("secret")

    answer = _get(tmp_path / "three.onnx")

    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.parametrize("kind", ["link", "large", "folder"])
def test_other_files_are_not_read(repository, tmp_path, kind):
    """A link out of the repository, a huge file and a folder are refused."""
    file = repository / "three/1" / REPORT
    file.unlink()
    if kind == "link":
        (tmp_path / "secret").write_text("secret")
        file.symlink_to(tmp_path / "secret")
    elif kind == "large":
        file.write_bytes(bytes(2**20 + 1))
    else:
        file.mkdir()

    answer = _get(repository)

    assert answer.status_code == 404
    assert "secret" not in answer.text
