"""file://: folders and files of this machine, as they are copied, replaced and linked."""

import os

import pytest

from service.stores.store import StoreError
from tests.harness import small
from tests.harness.stores import Puller, digest, visible

ONE, TWO = small.three(), small.three(2.0)


@pytest.fixture(name="share")
def _share(tmp_path):
    """Return a folder with two versions of a model."""
    small.put(tmp_path / "share", "churn", 2, ONE)
    small.put(tmp_path / "share", "churn", 10, TWO)
    return tmp_path / "share"


@pytest.fixture(name="puller")
def _puller(share, tmp_path):
    """Return pulls of the model."""
    return Puller(tmp_path / "models", f"file://{share}/churn")


def test_the_newest_version_keeps_its_number(puller):
    """Ten is newer than two, and replicas agree on what they call it."""
    pulled = puller.pull()

    assert (pulled.outcome, pulled.version) == ("published", "10")
    assert visible(puller.models) == [
        *("churn", "churn/10", "churn/10/model.onnx", "churn/10/source.json")
    ]
    assert (puller.models / "churn" / "last_version").read_text() == "10\n"


def test_a_version_that_is_named_is_pulled(share, tmp_path):
    """Its number is that of its folder."""
    assert Puller(tmp_path / "a", f"file://{share}/churn/2").pull().version == "2"
    assert Puller(tmp_path / "b", f"file://{share}/churn/2/model.onnx").pull().version == "2"


def test_a_lower_number_is_not_published(puller, share):
    """A source that goes back leaves the repository as it is."""
    puller.pull()
    (share / "churn" / "10").rename(share / "churn" / ".10")

    pulled = puller.pull()

    assert (pulled.outcome, pulled.version) == ("older", "2")
    assert "churn/2" not in visible(puller.models)


def test_a_number_that_was_removed_here_is_not_published_again(puller):
    """No number is given twice."""
    puller.pull()
    (puller.models / "churn" / "10").rename(puller.models / ".gone")
    small.put(puller.models, "churn", 3, ONE)

    assert puller.pull().outcome == "older"


def test_a_number_with_another_content_is_an_error(puller, share):
    """A version never changes."""
    puller.pull()
    (share / "churn" / "10" / "model.onnx").write_bytes(small.three(3.0))

    with pytest.raises(StoreError, match="another content under this number"):
        puller.pull()
    assert puller.content("10") == TWO


def test_a_version_that_was_published_in_another_way_is_known(puller):
    """Its files are compared, since it has no provenance."""
    small.put(puller.models, "churn", 10, TWO)

    assert puller.pull().outcome == "unchanged"
    assert not [path for path in puller.models.iterdir() if path.name.startswith(".")]


def test_a_content_that_training_published_is_known(share, tmp_path):
    """A file without a number is not published beside a version that has the same content."""
    puller = Puller(tmp_path / "models", f"file://{share}/churn/10/model.onnx", name="mine")
    (share / "best.onnx").write_bytes(TWO)
    small.put(puller.models, "best", 1, TWO)
    other = Puller(puller.models, f"file://{share}/best.onnx")

    assert (other.pull().outcome, puller.pull().version) == ("unchanged", "10")


def test_a_version_without_a_graph_is_still_being_written(puller, share):
    """The one before it is pulled until then."""
    (share / "churn" / "11").mkdir()
    (share / "churn" / "11" / "weights.bin").write_bytes(b"1")

    assert puller.pull().version == "10"


def test_a_digest_beside_a_file_is_compared(puller, share):
    """It is as sha256sum writes it, and is not pulled itself."""
    beside = share / "churn" / "10" / "model.onnx.sha256"
    beside.write_text(f"{digest(ONE)}  model.onnx\n")
    with pytest.raises(StoreError, match="expected the SHA-256"):
        puller.pull()
    beside.write_text(f"{digest(TWO).upper()} *model.onnx\n")

    assert puller.pull().files["model.onnx"].verified == "sha256"
    assert "churn/10/model.onnx.sha256" not in visible(puller.models)


def test_a_digest_beside_a_file_alone_is_compared(share, tmp_path):
    """A source that names a file has the same rule."""
    (share / "best.onnx").write_bytes(ONE)
    (share / "best.onnx.sha256").write_text("none\n")

    with pytest.raises(
        StoreError, match=r"best.onnx.sha256: expected a SHA-256 .* received 'none'"
    ):
        Puller(tmp_path / "models", f"file://{share}/best.onnx").pull()


def test_files_beside_the_graph_are_pulled(puller, share):
    """Weights and reports come along; hidden files and the provenance of others do not."""
    version = share / "churn" / "10"
    (version / "weights").mkdir()
    for name in ("report.html", "weights/0.bin", ".part", "source.json"):
        (version / name).write_bytes(b"1")

    puller.pull()

    assert [path for path in visible(puller.models) if path.startswith("churn/10/")] == [
        *("churn/10/model.onnx", "churn/10/report.html", "churn/10/source.json"),
        *("churn/10/weights", "churn/10/weights/0.bin"),
    ]
    assert (puller.models / "churn/10/source.json").read_bytes() != b"1"


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_a_link_that_leads_out_is_refused(puller, share, tmp_path, name):
    """A share cannot have files of this machine published."""
    (tmp_path / "secret").write_bytes(TWO)
    file = share / "churn" / "10" / name
    file.unlink(missing_ok=True)
    file.symlink_to(tmp_path / "secret")

    with pytest.raises(StoreError, match="a link leads out of the source"):
        puller.pull()
    assert visible(puller.models) == []


def test_a_link_inside_is_followed(puller, share):
    """As for a repository that is served."""
    file = share / "churn" / "10" / "model.onnx"
    file.rename(share / "churn" / "real.onnx")
    file.symlink_to("../real.onnx")

    assert puller.pull().version == "10"
    assert not (puller.models / "churn" / "10" / "model.onnx").is_symlink()


def test_a_pipe_is_refused(share, tmp_path):
    """It might never end, or never begin."""
    os.mkfifo(share / "churn" / "10" / "pipe")

    with pytest.raises(StoreError, match="expected a regular file"):
        Puller(tmp_path / "models", f"file://{share}/churn").pull()


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "\x1b[2J"])
def test_names_that_could_mislead_are_refused(puller, share, name):
    """They are not plain paths."""
    (share / "churn" / "10" / name).write_bytes(b"1")

    with pytest.raises(StoreError, match="expected paths of files like"):
        puller.pull()


def test_a_folder_without_a_model_is_an_error(tmp_path):
    """Nothing is pulled, and the message says what there is."""
    (tmp_path / "share" / "v1").mkdir(parents=True)

    with pytest.raises(StoreError, match=r"expected model.onnx or <version>/model.onnx, found v1/"):
        Puller(tmp_path / "models", f"file://{tmp_path}/share").pull()
    with pytest.raises(StoreError, match="there is no such file or folder"):
        Puller(tmp_path / "models", f"file://{tmp_path}/nowhere").pull()


def test_a_file_that_is_replaced_half_way_is_read_anew(puller, share):
    """No version has parts of two files."""
    store = puller.wanted.source.open()
    plain = store.read

    def read(entry, start):
        store.read = plain
        reading = plain(entry, start)
        file = share / "churn" / "10" / "model.onnx"
        (share / "new").write_bytes(ONE)
        (share / "new").rename(file)
        return reading

    store.read = read

    assert puller.pull(store=store).outcome == "published"
    assert puller.content("10") == ONE
