"""`triceps up`: from a table to a running service, and at once to the same one again."""

import socket
import sys

import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason="needs the train extra")

from service.errors import TricepsError
from service.repository.publish import versions
from tests.harness import serving
from tests.training.init.tables import penguins
from training import spec as specs
from training import up

HEADS = ("--head", "species", "--head", "sex")


def _server(folder, *arguments):
    """Start `triceps up` as a process."""
    program = serving.LIFE + "from training.up import up; up()"
    command = [sys.executable, "-c", program, "birds.csv", *arguments, "--models", "models"]
    return serving.Server(folder=folder, command=command)


def _greeting(server):
    """Return what the command prints, up to the request to try."""
    said = []
    for line in server.process.stdout:
        said.append(line)
        if line.startswith("  curl "):
            return "".join(said)
    raise AssertionError(f"the command ended: {said} {server.said()}")


@pytest.mark.keras
def test_a_table_is_served_and_the_next_time_at_once(tmp_path):
    """The first run writes, trains and serves; the second serves the same version."""
    (tmp_path / "birds.csv").write_text(penguins())

    with _server(tmp_path, *HEADS) as server:
        first = _greeting(server)
        _, _, example = server.ask("GET", "/models/birds/example")
        kind = {"Content-Type": "application/json"}
        status, _, answer = server.ask("POST", "/models/birds/predict", example, kind)
        assert (status, b'"species"' in answer) == (200, True), answer
    with _server(tmp_path, *HEADS) as server:
        second = _greeting(server)

    begun = "triceps init birds.csv --head species --head sex"
    assert f"1/3 {begun}\n" in first
    assert "2/3 triceps train birds.toml --models models\n" in first
    assert "3/3 triceps serve --models models --default-model birds\n" in first
    assert f":{server.port}/models/birds/predict" in second
    assert "1/3 birds.toml is what init would write\n" in second
    assert "2/3 models/birds/1/model.onnx is of this spec and these tables" in second
    assert versions(tmp_path / "models" / "birds") == [1]

    # A changed spec or table is trained again.
    spec = specs.load(tmp_path / "birds.toml")
    assert up.current_version(spec, tmp_path / "models") == "1"
    (tmp_path / "birds.csv").write_text(penguins(63))
    assert up.current_version(spec, tmp_path / "models") is None
    (tmp_path / "birds.csv").write_text(penguins())
    (tmp_path / "birds.toml").write_text(f"{spec.path.read_text()}# edited\n")
    assert up.current_version(specs.load(spec.path), tmp_path / "models") is None
    assert up.current_version(spec, tmp_path / "nowhere") is None


@pytest.fixture(name="steps")
def _steps(tmp_path, monkeypatch):
    """Return a function that runs the command, and returns it and the steps that it took."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds.csv").write_text(penguins())
    taken = []
    monkeypatch.setattr(up.cli.train, "main", lambda words, **_: taken.append(words))
    monkeypatch.setenv("TRICEPS_HOST", serving.HOST)
    monkeypatch.setenv("TRICEPS_PORT", str(serving.free_port()))
    monkeypatch.setattr(up.os, "execv", lambda _, words: taken.append(words[4:]))

    def run(*arguments):
        taken.clear()
        return CliRunner().invoke(up.up, ["birds.csv", *arguments]), list(taken)

    return run


def test_the_options_reach_the_steps(steps, tmp_path):
    """The spec is trained into the repository that is served, on the port that is asked for."""
    port = serving.free_port()
    done, taken = steps(*HEADS, "--name", "b", "--models", "other", "--port", port)

    assert done.exit_code == 0, done.output
    assert taken == [
        ["b.toml", "--models", "other"],
        ["serve", "--models", "other", "--default-model", "b", "--port", str(port)],
    ]
    assert (tmp_path / "b.toml").exists()


def test_a_port_in_use_is_said_before_anything_is_done(steps, tmp_path):
    """Whoever waits for a training should not learn at its end that nothing can be served."""
    with socket.create_server((serving.HOST, 0)) as taken_already:
        port = taken_already.getsockname()[1]
        done, taken = steps(*HEADS, "--port", port)

    assert isinstance(done.exception, TricepsError)
    assert f":{port}: Address already in use; choose another with --port" in str(done.exception)
    assert (taken, (tmp_path / "birds.toml").exists()) == ([], False)


def test_an_edited_spec_is_kept(steps, tmp_path):
    """What a person has changed is trained as it is."""
    steps(*HEADS)
    path = tmp_path / "birds.toml"
    edited = path.read_text().replace("epochs = 60", "epochs = 7")
    path.write_text(edited)

    done, taken = steps(*HEADS)

    assert "1/3 birds.toml is there, and is kept; anew: triceps init birds.csv" in done.output
    assert taken[0][0] == "birds.toml"
    assert path.read_text() == edited


def test_a_spec_of_other_heads_is_no_answer(steps):
    """A spec that learns something else is neither served nor overwritten."""
    steps(*HEADS)

    done, taken = steps("--head", "body_mass_g")

    assert isinstance(done.exception, TricepsError)
    assert "birds.toml: is there already, and learns birds.csv, sex of birds.csv" in str(
        done.exception
    )
    assert "triceps init birds.csv --head body_mass_g --force" in str(done.exception)
    assert taken == []


def test_a_signature_without_tables_is_trained_again(steps, tmp_path, monkeypatch):
    """A file of an older version does not say which tables it learned from."""
    steps(*HEADS)
    spec = specs.load(tmp_path / "birds.toml")
    (tmp_path / "models" / "birds" / "1").mkdir(parents=True)
    for origin in ({}, {"spec_sha256": spec.digest}, {"spec_sha256": "", "tables_sha256": {}}):
        monkeypatch.setattr(
            up.repositories, "signature_of", lambda _, found=origin: {"provenance": found}
        )
        assert up.current_version(spec, tmp_path / "models") is None
