"""Fixtures of the tests of training: the problems of a spec, and one run of everything."""

import pytest

from training import spec as specs
from training.errors import SpecError


@pytest.fixture(name="problems_of")
def _problems_of(tmp_path):
    """Return a function that returns the problems of a text as a spec, one line each."""

    def find(text):
        path = tmp_path / "small.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SpecError) as raised:
            specs.load(path)
        lines = str(raised.value).splitlines()
        assert all(line.startswith(f"{path}: ") for line in lines)
        return [line.removeprefix(f"{path}: ") for line in lines]

    return find


@pytest.fixture(scope="session", name="everything")
def _everything(tmp_path_factory):
    """Train `EVERYTHING` once; return the path of its spec, the models and the result."""
    from tests.harness import tiny
    from tests.training.runs import EVERYTHING, fruits, run

    folder = tmp_path_factory.mktemp("everything")
    path = tiny.write(
        folder, EVERYTHING, people=tiny.people(), fruits=fruits(), pictures=tiny.pictures()
    )
    done = run("train", path, "--models", folder / "models")
    assert done.exit_code == 0, (done.output, done.exception)
    return path, folder / "models", done
