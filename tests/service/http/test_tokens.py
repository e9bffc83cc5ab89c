"""The tokens file: what it says, what a request's token opens, and how changes are followed."""

import logging
import os
from hashlib import sha256

import pytest

from service.errors import Forbidden, Unauthorized
from service.http import access, tokens
from service.http.access import Access, warning
from service.http.tokens import ALL, TokensError, parse, read


def hashed(token):
    """Return the hash of a token as the file writes it."""
    return f"sha256:{sha256(token.encode()).hexdigest()}"


FILE = f"""
# The clients.

[[tokens]]
name = "shop"
hash = "{hashed("s")}"
scopes = ["predict"]
models = ["triceps", "churn"]

[[tokens]]
name = "ops"
hash = "{hashed("o")}"
scopes = ["admin", "metrics"]

[[tokens]]
name = "all"
hash = "{hashed("a")}"
scopes = ["predict"]
"""


@pytest.fixture
def file(tmp_path):
    """Return a file of three tokens that no other user can read."""
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


def later(opened, path, text):
    """Replace the file, and look at it at once."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)
    opened.look_again()


@pytest.mark.parametrize(
    ("header", "scope", "model", "name"),
    [
        pytest.param("Bearer a", "predict", "triceps", "all", id="for all models"),
        pytest.param("Bearer a", "predict", ALL, "all", id="what tells of all of them"),
        pytest.param("Bearer s", "predict", "churn", "shop", id="for this model"),
        pytest.param("Bearer s", "predict", None, "shop", id="what tells of none"),
        pytest.param("bearer o", "admin", "triceps", "ops", id="the scheme in any case"),
        pytest.param("Bearer   o ", "metrics", None, "ops", id="blanks around it"),
        pytest.param("", None, None, "", id="what is open"),
        pytest.param("Bearer x", None, None, "", id="what is open, with any token"),
    ],
)
def test_a_token_opens_what_it_was_made_for(file, header, scope, model, name):
    """The name of the token is returned, the first time and each time after."""
    opened = Access.open(str(file))

    assert opened.is_on
    assert [opened.check(header, scope, model) for _ in range(2)] == [name, name]


@pytest.mark.parametrize(
    ("header", "received"),
    [
        pytest.param("", "a token, received none", id="none"),
        pytest.param("Basic czpz", "a token, received another scheme", id="a password"),
        pytest.param("s", "a token, received another scheme", id="no scheme"),
        pytest.param(
            "Bearer", "one that it does not know, or no longer knows", id="a scheme alone"
        ),
        pytest.param("Bearer S", "one that it does not know, or no longer knows", id="a guess"),
        pytest.param("Bearer s,Bearer s", "one that it does not", id="the header twice"),
        pytest.param("Bearer s a", "one that it does not", id="two tokens"),
        pytest.param("Bearer \xff\udc80", "one that it does not", id="no ASCII"),
    ],
)
def test_a_client_without_a_valid_token_learns_nothing(file, header, received):
    """The refusal neither says whether the model exists nor repeats the token."""
    opened = Access.open(file)

    for model in ("triceps", "nothing", ALL, None):
        with pytest.raises(Unauthorized) as raised:
            opened.check(header, "predict", model)

        assert raised.value.status == 401
        assert raised.value.headers == (("WWW-Authenticate", 'Bearer realm="triceps"'),)
        assert str(raised.value).startswith("Authorization: expected ")
        assert received in str(raised.value)
        assert "S" not in str(raised.value)


@pytest.mark.parametrize(
    ("header", "scope", "model", "message"),
    [
        pytest.param(
            "Bearer s",
            "admin",
            "triceps",
            "token 'shop': expected one with the scope 'admin', received one with predict",
            id="no admin",
        ),
        pytest.param(
            "Bearer o",
            "predict",
            None,
            "token 'ops': expected one with the scope 'predict', received one with admin, metrics",
            id="an admin may not predict",
        ),
        pytest.param(
            "Bearer s",
            "predict",
            "other",
            "token 'shop': expected one for the model that is asked, received one for churn, "
            "triceps",
            id="another model",
        ),
        pytest.param(
            "Bearer s",
            "predict",
            ALL,
            "token 'shop': expected one for every model, received one for churn, triceps",
            id="what tells of all",
        ),
    ],
)
def test_a_token_opens_nothing_else(file, header, scope, model, message):
    """The refusal says what the token is for, and nothing of other models."""
    with pytest.raises(Forbidden) as raised:
        Access.open(file).check(header, scope, model)

    assert (raised.value.status, str(raised.value)) == (403, message)


def test_without_a_file_everything_but_administration_is_open():
    """Administration always needs a token."""
    opened = Access.open("")

    assert not opened.is_on
    assert opened.check("", "predict", ALL) == opened.check("Bearer x", "metrics", None) == ""
    with pytest.raises(Forbidden) as raised:
        opened.check("Bearer x", "admin", "triceps")
    assert str(raised.value) == (
        "this needs a token with the scope 'admin', and this service knows none: make one by "
        "`triceps token NAME --scope admin`, and start the service with TRICEPS_TOKENS_FILE"
    )


def test_a_token_is_identified_whatever_it_is_for(file):
    """A body is refused without a token before it is clear what the token has to open."""
    opened = Access.open(file)

    assert opened.identify("Bearer o").name == "ops"
    assert Access.open("").identify("").name == ""
    with pytest.raises(Unauthorized):
        opened.identify("")


@pytest.mark.parametrize("text", ["", "\n", "# all of it was here\n"])
def test_an_empty_file_is_broken(file, text):
    """An empty file may be an accident. It stops a start; later, the previous tokens stay valid."""
    opened = Access.open(file)
    later(opened, file, text)

    assert opened.check("Bearer s", "predict", "churn") == "shop"
    with pytest.raises(
        TokensError, match=r"expected at least one table \[\[tokens\]\], or count = 0"
    ):
        Access.open(file)


def test_a_file_may_have_no_token_if_it_says_so(file):
    """`triceps token --remove` writes count = 0 for the last token; all requests are refused."""
    file.write_text("count = 0\n")

    with pytest.raises(Unauthorized):
        Access.open(file).check("Bearer s", "predict", None)


def test_a_removed_token_is_refused_once_the_file_can_be_read_again(file, monkeypatch):
    """The file is read again until that succeeds, for example once a descriptor is free."""
    opened = Access.open(file)
    assert opened.check("Bearer s", "predict", None) == "shop"
    later(opened, file, FILE.replace(hashed("s"), hashed("new")))
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "read_file", _fail)
        assert opened.check("Bearer s", "predict", None) == "shop"
    opened.look_again()

    with pytest.raises(Unauthorized):
        opened.check("Bearer s", "predict", None)


def _fail(*_):
    raise OSError(24, "Too many open files")


def test_a_change_is_followed(file, caplog):
    """New tokens are accepted within a second; removed ones are refused, however well known."""
    caplog.set_level(logging.INFO)
    opened = Access.open(file)
    assert opened.check("Bearer s", "predict", None) == "shop"
    later(opened, file, FILE.replace(hashed("s"), hashed("new")))

    assert opened.check("Bearer new", "predict", None) == "shop"
    with pytest.raises(Unauthorized):
        opened.check("Bearer s", "predict", None)
    assert caplog.messages == [f"{file}: has changed, and has 3 tokens"]


def test_a_secret_of_kubernetes_is_followed(tmp_path, caplog):
    """Its files are links, of which one is replaced for all; the group alone may read them."""
    caplog.set_level(logging.INFO)
    for number, secret in (("1", "s"), ("2", "new")):
        (tmp_path / f"..{number}").mkdir()
        real = tmp_path / f"..{number}" / "tokens.toml"
        real.write_text(FILE.replace(hashed("s"), hashed(secret)))
        real.chmod(0o440)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tokens.toml").symlink_to("..data/tokens.toml")
    opened = Access.open(tmp_path / "tokens.toml")
    assert opened.check("Bearer s", "predict", None) == "shop"
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    opened.look_again()

    assert opened.check("Bearer new", "predict", None) == "shop"
    with pytest.raises(Unauthorized):
        opened.check("Bearer s", "predict", None)
    assert [entry.levelname for entry in caplog.records] == ["INFO"]


def test_the_tokens_file_is_looked_at_once_a_second(file):
    """The number of requests makes no difference."""
    opened = Access.open(file)
    file.write_text(FILE.replace(hashed("s"), hashed("new")))
    for _ in range(100):
        assert opened.check("Bearer s", "predict", None) == "shop"
    opened.look_again()

    with pytest.raises(Unauthorized):
        opened.check("Bearer s", "predict", None)


@pytest.mark.parametrize(
    "break_file",
    [
        pytest.param(lambda opened, path: later(opened, path, "[[tokens]"), id="no TOML"),
        pytest.param(lambda opened, path: later(opened, path, "[[token]]"), id="a slip"),
        pytest.param(
            lambda opened, path: later(opened, path, "count = 4\n" + FILE), id="another count"
        ),
        pytest.param(lambda opened, path: (path.unlink(), opened.look_again()), id="gone"),
        pytest.param(
            lambda opened, path: (path.unlink(), os.mkfifo(path), opened.look_again()),
            id="a pipe",
        ),
        pytest.param(
            lambda opened, path: (
                path.unlink(),
                path.symlink_to("/dev/zero"),
                opened.look_again(),
            ),
            id="a device that has no end",
        ),
    ],
)
def test_a_broken_file_changes_nothing_and_is_logged_once(file, break_file, caplog):
    """The previous tokens stay valid; once the file is fixed, it counts again."""
    opened = Access.open(file)
    break_file(opened, file)
    names = []
    for _ in range(3):
        names.append(opened.check("Bearer s", "predict", "churn"))
        opened.look_again()
    assert names == ["shop"] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.messages[0].startswith(f"{file}: ")
    assert caplog.messages[0].endswith("; the previous tokens stay valid")

    later(opened, file, FILE.replace('"shop"', '"store"'))

    assert opened.check("Bearer s", "predict", "churn") == "store"


def test_all_tokens_are_compared_wherever_the_matching_one_is(file, monkeypatch):
    """The time of a comparison tells nothing; a valid token is compared only the first time."""
    compared = []
    monkeypatch.setattr(
        access.hmac, "compare_digest", lambda ours, _: compared.append(ours) or ours == _
    )
    opened = Access.open(file)
    for token in ("s", "a", "s"):
        opened.check(f"Bearer {token}", "predict", "churn")
    right = len(compared)
    for _ in range(3):
        with pytest.raises(Unauthorized):
            opened.check("Bearer x", "predict", None)

    assert right == 6
    assert len(compared) == 6 + 9


def test_no_token_is_kept(file):
    """The cache of known tokens holds hashes alone."""
    opened = Access.open(file)
    opened.check("Bearer s", "predict", None)

    assert set(opened._file.value.known) == {sha256(b"s").digest()}


@pytest.mark.parametrize("mode", [0o604, 0o644])
def test_a_file_that_all_can_read_causes_a_warning(file, mode, caplog):
    """A group may read the file; each state that all can read is warned of once."""
    file.chmod(0o640)
    Access.open(file)
    assert caplog.messages == []
    file.chmod(mode)
    Access.open(file)

    assert caplog.messages == [
        f"{file}: expected a mode such as 0600, received {mode:04o}: all may read it"
    ]


def entry(**changes):
    """Return a file of one token, on its second line, with keys changed; `None` drops a key."""
    keys = {"name": '"a"', "hash": f'"{hashed("a")}"', "scopes": '["predict"]', **changes}
    return "\n[[tokens]]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items() if v is not None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "tokens = 1", "t.toml: expected tables of [[tokens]], received another tokens", id="1"
        ),
        pytest.param(
            "tokens = [1]", "t.toml: expected tables of [[tokens]], received another", id="[1]"
        ),
        pytest.param(
            "[[token]]",
            "t.toml: expected tables of [[tokens]], received the unknown key 'token' "
            "(did you mean 'tokens'?)",
            id="an unknown table",
        ),
        pytest.param(
            "x = ", "t.toml: expected TOML, received something else: Invalid value (at", id="TOML"
        ),
        pytest.param(
            entry(scope='["predict"]'),
            "t.toml, line 6, scope: expected one of name, hash, scopes, models "
            "(did you mean 'scopes'?), received an unknown key",
            id="an unknown key",
        ),
        pytest.param(
            entry(name=None),
            "t.toml, line 2, name: expected a name of at most 128 letters, digits, "
            "'_', '.' and '-', the first none of the last two, received none",
            id="no name",
        ),
        pytest.param(entry(name='"a b"'), "line 3, name: expected a name of", id="a blank"),
        pytest.param(entry(name="1"), "line 3, name: expected a name of", id="a number"),
        pytest.param(
            entry(hash=None),
            't.toml, line 2, hash: expected "sha256:" and 64 digits of 0-9a-f, received none',
            id="no hash",
        ),
        pytest.param(
            entry(hash='"triceps_secret"'),
            't.toml, line 4, hash: expected "sha256:" and 64 digits of 0-9a-f, received something '
            "else",
            id="the token itself",
        ),
        pytest.param(
            entry(scopes=None),
            "t.toml, line 2, scopes: expected a list of one or more texts, received none",
            id="no scopes",
        ),
        pytest.param(entry(scopes="[]"), "line 5, scopes: expected a list of one", id="no scope"),
        pytest.param(
            entry(scopes='"predict"'),
            "line 5, scopes: expected a list of one or more texts, received 'predict'",
            id="no list",
        ),
        pytest.param(
            entry(scopes='[\n  "predict",\n  "metric",\n]'),
            "t.toml, line 5, scopes[1]: expected one of predict, admin, metrics "
            "(did you mean 'metrics'?), received 'metric'",
            id="an unknown scope",
        ),
        pytest.param(
            entry(models="[]"), "line 6, models: expected a list of one or more", id="no model"
        ),
        pytest.param(
            entry(models='["a", "*"]'), "line 6, models[1]: expected a name of", id="a pattern"
        ),
        pytest.param(
            entry(scopes='["predict", "metrics"]', models='["a"]'),
            "t.toml, line 6, models: expected none beside the scope 'metrics', since metrics tell "
            "of every model, received a",
            id="metrics of some",
        ),
        pytest.param(
            entry() + entry(hash=f'"{hashed("b")}"'),
            "t.toml, line 8, name: expected names that differ, received 'a' twice",
            id="a name twice",
        ),
        pytest.param(
            entry() + entry(name='"b"'),
            "t.toml, line 9, hash: expected tokens that differ, received the token of 'a' again",
            id="a token twice",
        ),
        pytest.param(
            'tokens = [{ name = "a", hash = "" }]',
            "t.toml, tokens[0], hash: expected",
            id="a list, which has no lines of its own",
        ),
    ],
)
def test_the_error_for_a_wrong_file_says_where_and_what(text, message):
    """The error has file, line, key, expectation and value, but never a hash or a token."""
    with pytest.raises(TokensError) as raised:
        parse(text, "t.toml")

    assert message in str(raised.value)
    assert raised.value.exit_code == 2
    assert "secret" not in str(raised.value)


def test_the_error_for_an_unreadable_file_has_the_systems_reason(tmp_path):
    """The error repeats the reason of the operating system."""
    with pytest.raises(TokensError, match="cannot be read: No such file"):
        Access.open(tmp_path / "tokens.toml")
    with pytest.raises(TokensError, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(TokensError, match="binary: expected TOML, which is UTF-8, received other"):
        read(tmp_path / "binary")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_error_for_a_forbidden_file_has_the_systems_reason(file):
    """The error repeats the reason of the operating system."""
    file.chmod(0)

    with pytest.raises(TokensError, match="cannot be read: Permission denied"):
        Access.open(file)


@pytest.mark.parametrize(
    ("host", "tokens", "warned"),
    [
        ("127.0.0.1", "", False),
        ("127.1.2.3", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("app.localhost", "", False),
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("10.0.0.1", "", True),
        ("fe80::1%eth0", "", True),
        ("example.com", "", True),
        ("0.0.0.0", "tokens.toml", False),
    ],
)
def test_an_open_service_that_others_can_reach_causes_a_warning(host, tokens, warned):
    """The warning is one line that names both ways out."""
    message = warning(host, tokens)

    assert (message is not None) is warned
    if message is not None:
        assert host in message
        assert "TRICEPS_TOKENS_FILE" in message
        assert "127.0.0.1" in message
        assert "\n" not in message
