"""https://: a server that cuts, throttles, replaces, lies and redirects, and what is published."""

import pytest

from service.stores.store import Interrupted, StoreError
from service.stores.web import Web
from tests.harness import file_server, small
from tests.harness.file_server import cut, fine, status
from tests.harness.stores import Puller, digest, visible

PATH = "/churn/model.onnx"
ONE, TWO = small.three(), small.three(2.0)


@pytest.fixture(name="files")
def _files():
    """Yield the files of a server, which has one model."""
    with file_server.served(encrypted=False) as files:
        files.content[PATH] = ONE
        yield files


@pytest.fixture(name="puller")
def _puller(files, tmp_path):
    """Return pulls of the model."""
    return Puller(tmp_path / "models", files.url + PATH)


def test_a_file_is_published_once(puller, files):
    """The same content is not published again, nor downloaded, if its tag is the same."""
    assert (puller.pull().outcome, puller.pull().outcome) == ("published", "unchanged")

    assert puller.content("1") == ONE
    assert len([r for r in files.requests if r.get("Range") != "bytes=0-0"]) == 1


def test_another_content_is_the_next_version(puller, files):
    """The old one stays."""
    puller.pull()
    files.content[PATH] = TWO

    assert puller.pull().version == "2"
    assert (puller.content("1"), puller.content("2")) == (ONE, TWO)


def test_a_source_that_goes_back_is_not_followed(puller, files):
    """An older content never becomes the newest version."""
    puller.pull()
    files.content[PATH] = TWO
    puller.pull()
    files.content[PATH] = ONE

    pulled = puller.pull()

    assert (pulled.outcome, pulled.version) == ("older", "1")
    assert "churn/3" not in visible(puller.models)


def test_the_same_content_under_another_tag_is_unchanged(puller, files):
    """A server without tags is read again, and nothing is published."""
    files.has_tags = False

    assert (puller.pull().outcome, puller.pull().outcome) == ("published", "unchanged")
    assert visible(puller.models).count("churn/1/model.onnx") == 1
    assert not [path for path in puller.models.iterdir() if path.name.startswith(".")]


def test_a_cut_download_goes_on_where_it_was(puller, files):
    """It asks for the rest, on the condition that the file is the same."""
    files.troubles = [fine, fine, cut(700), cut(300)]

    assert puller.pull().outcome == "published"
    assert puller.content("1") == ONE
    asked = [(r.get("Range"), "If-Range" in r) for r in files.requests]
    assert asked[3:5] == [("bytes=700-", True), ("bytes=1000-", True)]


def test_a_server_without_ranges_is_read_from_the_start(puller, files):
    """What was received before is not taken twice."""
    files.has_ranges = False
    files.troubles = [fine, fine, cut(700)]

    assert puller.pull().outcome == "published"
    assert puller.content("1") == ONE


def test_a_server_without_tags_is_read_from_the_start(puller, files):
    """The rest could be that of another file."""
    files.has_tags = False
    files.troubles = [fine, fine, cut(700)]

    assert puller.pull().outcome == "published"
    assert puller.content("1") == ONE


@pytest.mark.parametrize("has_tags", [True, False])
def test_a_file_that_is_replaced_half_way_is_read_anew(puller, files, has_tags):
    """No version has parts of two files."""
    files.has_tags = has_tags
    other = small.three(3.0, golden=False)

    def replace(answer):
        answer.sent = 700
        files.content[PATH] = other

    files.troubles = [fine, fine, replace]

    assert puller.pull().outcome == "published"
    assert puller.content("1") == other
    assert "replaced while it was read" in "".join(puller.said)


def test_a_server_without_tags_that_always_cuts_is_left(puller, files):
    """To read the same bytes again, from the start, is no progress."""
    files.has_tags = False
    # Not endless, since the test may fail.
    files.troubles = [fine, fine, *[cut(20)] * 100]

    with pytest.raises(StoreError, match=r"cut|failed"):
        puller.pull()
    assert len(files.requests) < 20


def test_a_file_that_is_replaced_all_the_time_is_left(puller, files):
    """Nothing is published, and the way out is a later look."""

    def replace(answer):
        files.content[PATH] += b"0"

    files.troubles = [replace] * 100

    with pytest.raises(Interrupted, match="replaced faster than it can be read"):
        puller.pull()
    assert visible(puller.models) == []


def test_throttling_is_waited_for(puller, files):
    """Each kind of refusal that may pass is followed by another attempt."""
    files.troubles = [
        status(429),
        status(503),
        status(500),
        fine,
        fine,
        status(429, Retry_After="0"),
    ]

    assert puller.pull().outcome == "published"
    assert len(puller.said) == 4


def test_a_server_that_always_throttles_is_left(puller, files):
    """A bounded number of attempts is made."""
    files.troubles = [status(503)] * 50

    with pytest.raises(Interrupted, match="expected a file, received 503"):
        puller.pull()
    assert len(files.requests) == 4


def test_a_server_that_is_not_there_is_left(tmp_path):
    """The error says that it cannot be reached."""
    with file_server.served(encrypted=False) as files:
        url = files.url + PATH
    with pytest.raises(Interrupted, match=r"/churn/model.onnx: cannot be reached: .*refused"):
        Puller(tmp_path, url).pull()


@pytest.mark.parametrize("code", [401, 403])
def test_missing_credentials_are_named(puller, files, code):
    """The message says where they may come from."""
    files.troubles = [status(code)]

    with pytest.raises(StoreError, match=rf"received {code}: it needs credentials.*netrc"):
        puller.pull()


def test_a_length_that_is_too_large_is_noticed(puller, files):
    """What is received is never taken for the whole file."""

    def lie(answer):
        answer.headers |= {"Content-Length": "5000", "Content-Range": "bytes 0-4999/5000"}

    files.has_ranges = False
    files.troubles = [lie] * 50

    with pytest.raises(Interrupted, match="expected 5000 bytes, received"):
        puller.pull()
    assert visible(puller.models) == []


def test_a_length_that_is_too_small_is_noticed(puller, files):
    """The beginning of a file cannot serve."""

    def lie(answer):
        answer.headers |= {"Content-Length": "900", "Content-Range": "bytes 0-0/900"}

    files.has_ranges = False
    files.troubles = [lie] * 50

    with pytest.raises(StoreError, match="refused"):
        puller.pull()
    assert visible(puller.models) == []


def test_a_body_without_a_length_and_an_end_is_refused(puller, files):
    """A cut connection could not be told from the end."""

    def hide(answer):
        answer.headers["Content-Length"] = "unknown"

    files.has_ranges = False
    files.troubles = [hide] * 50

    with pytest.raises(Interrupted, match="expected a Content-Length"):
        puller.pull()


def test_an_endless_body_is_left(files, tmp_path):
    """It is bounded by --max-bytes, and what was received of it is removed."""

    def never_end(answer):
        answer.endless = True

    files.has_ranges = False
    files.troubles = [never_end] * 9
    puller = Puller(tmp_path / "models", files.url + PATH, most=10**6)

    with pytest.raises(StoreError, match=r"at most \d+ bytes \(--max-bytes\), received more"):
        puller.pull()
    assert sum(path.stat().st_size for path in puller.models.rglob("*")) < 10**5


def test_a_file_that_is_too_large_is_not_begun(files, tmp_path):
    """Its size is known before."""
    puller = Puller(tmp_path / "models", files.url + PATH, most=1000)

    with pytest.raises(StoreError, match=rf"at most 1000 bytes .* received the size {len(ONE)}"):
        puller.pull()
    assert all(r["Range"] == "bytes=0-0" for r in files.requests)


def test_a_digest_of_the_server_is_compared(puller, files):
    """A file that was damaged on the way is not published."""
    files.has_digests = True

    def damage(answer):
        answer.content = answer.content[:-1] + b"?"

    files.troubles = [fine, fine, damage]

    with pytest.raises(StoreError, match=rf"expected the SHA-256 {digest(ONE)}, received"):
        puller.pull()
    assert visible(puller.models) == []
    assert puller.pull().files["model.onnx"].verified == "sha256"


def test_a_digest_of_the_command_is_compared(files, tmp_path):
    """Nothing else is published, whatever the server has."""
    puller = Puller(tmp_path / "models", files.url + PATH, sha256=digest(TWO))

    with pytest.raises(StoreError, match=rf"expected the SHA-256 {digest(TWO)}, received"):
        puller.pull()
    files.content[PATH] = TWO
    assert puller.pull().files["model.onnx"].verified == "sha256"


def test_what_was_kept_and_is_damaged_is_downloaded_again(files, tmp_path):
    """The digest of the whole file shows it."""
    puller = Puller(tmp_path / "models", files.url + PATH, sha256=digest(ONE))
    files.troubles = [fine, fine, *[cut(700)] + [cut(0)] * 9]
    with pytest.raises(Interrupted):
        puller.pull()
    [part] = puller.models.rglob("model.onnx")
    part.write_bytes(b"?" + part.read_bytes()[1:])
    files.troubles = []

    assert puller.pull().outcome == "published"
    assert puller.content("1") == ONE
    assert "damaged" in puller.said[-1]


def test_a_redirect_is_followed_without_the_credentials(files, tmp_path):
    """Another host does not get them; the same one does."""
    files.account = "me:secret"
    url = files.url.replace("//", "//me:secret@") + PATH
    with file_server.served(encrypted=False) as other:
        other.content["/elsewhere"] = ONE
        files.troubles = [status(302, Location=f"{other.url}/elsewhere")] * 4
        assert Puller(tmp_path / "a", url).pull().outcome == "published"
        assert not [r for r in other.requests if "Authorization" in r]
    files.troubles = [status(302, Location=PATH)]
    files.requests.clear()

    assert Puller(tmp_path / "b", url).pull().outcome == "published"
    assert all("Authorization" in r for r in files.requests)


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/model.onnx", "file:///etc/passwd", PATH])
def test_a_redirect_to_another_scheme_or_in_a_circle_is_not_followed(puller, files, place):
    """A server cannot have files of this machine published."""
    files.troubles = [status(302, Location=place)] * 50

    with pytest.raises(StoreError, match="received 302: a redirect is followed from https"):
        puller.pull()


def test_credentials_of_netrc_are_sent(files, tmp_path, monkeypatch):
    """They are those for the host."""
    files.account = "me:secret"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    assert Puller(tmp_path / "models", files.url + PATH).pull().outcome == "published"


def test_a_compressed_answer_is_refused(puller, files):
    """Its length would not be that of the file."""

    def compress(answer):
        answer.headers["Content-Encoding"] = "gzip"

    files.troubles = [compress]

    with pytest.raises(StoreError, match=r"received it compressed \(gzip\)"):
        puller.pull()


def test_an_empty_file_is_refused(puller, files):
    """There is nothing to check."""
    files.content[PATH] = b""

    with pytest.raises(StoreError, match="received an empty one"):
        puller.pull()


def test_a_path_with_blanks_is_escaped(files, tmp_path):
    """What is escaped already stays as it is."""
    files.content["/a%20b/model.onnx"] = ONE

    for place in ("/a b/model.onnx", "/a%20b/model.onnx"):
        offer = Web(files.url + place, "shown", None).look()
        assert offer.files[0].size == len(ONE)
