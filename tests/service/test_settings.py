"""Settings: their sources, the order of precedence, and errors for misspelt names."""

import errno
import os
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.errors import SettingsError
from service.settings import Settings, flag, load, options, variable


def test_defaults_are_those_of_the_page():
    """Without any setting, the documented defaults hold."""
    assert load({}) == Settings(
        models=Path("models"),
        host="127.0.0.1",
        port=8080,
        default_model="",
        max_body=16_777_216,
        workers=Settings().workers,
        threads=Settings().threads,
    )


@pytest.mark.parametrize(
    ("environ", "given", "port"),
    [
        pytest.param({}, {}, 8080, id="the default"),
        pytest.param({"PORT": "1"}, {}, 1, id="PORT"),
        pytest.param({"PORT": "1", "TRICEPS_PORT": "2"}, {}, 2, id="TRICEPS_PORT over PORT"),
        pytest.param({"PORT": "1", "TRICEPS_PORT": "2"}, {"port": 3}, 3, id="a flag over both"),
        pytest.param({"PORT": "1", "TRICEPS_PORT": ""}, {}, 1, id="empty is not set"),
        pytest.param({"PORT": ""}, {}, 8080, id="empty PORT"),
        pytest.param({"PORT": "x", "TRICEPS_PORT": "2"}, {}, 2, id="what is not used is not read"),
        pytest.param({"TRICEPS_PORT": " 2 "}, {}, 2, id="blanks around it"),
        pytest.param({"TRICEPS_PORT": "tcp://10.0.0.1:80"}, {}, 8080, id="Kubernetes' own"),
        pytest.param({"TRICEPS_PORT": "tcp://10.0.0.1:80", "PORT": "1"}, {}, 1, id="then PORT"),
        pytest.param({"PORT": "udp://10.0.0.1:80"}, {}, 8080, id="a Service called port"),
    ],
)
def test_a_port_comes_from_the_nearest_place(environ, given, port):
    """A flag wins over `TRICEPS_PORT`, then over a platform's variable, then over the default."""
    assert load(environ, **given).port == port


@pytest.mark.parametrize(
    ("environ", "given", "host"),
    [
        pytest.param({}, {}, "127.0.0.1", id="the default"),
        pytest.param({"HOST": "a"}, {}, "a", id="HOST"),
        pytest.param({"HOST": "a", "TRICEPS_HOST": "b"}, {}, "b", id="TRICEPS_HOST over HOST"),
        pytest.param({"HOST": "a", "TRICEPS_HOST": "b"}, {"host": "c"}, "c", id="a flag over both"),
        pytest.param({"HOST": "a"}, {"host": ""}, "a", id="an empty flag is not given"),
        pytest.param({}, {"host": None}, "127.0.0.1", id="None is not given"),
    ],
)
def test_a_host_comes_from_the_nearest_place(environ, given, host):
    """An empty host is refused, since it would listen on every address."""
    assert load(environ, **given).host == host


@pytest.mark.parametrize(
    ("text", "first"),
    [
        pytest.param("{0}/a:{0}/b", "a", id="the first of several"),
        pytest.param("{0}/none:{0}/b:{0}/a", "b", id="the first that is there"),
        pytest.param("{0}/none:{0}/nothing", "none", id="none is there: the first is missed"),
        pytest.param(":{0}/b:", "b", id="an empty one is none, and not this folder"),
        pytest.param("{0}/empty:{0}/a", "empty", id="an empty one is waited for"),
        pytest.param("{0}/file/in:{0}/b", "b", id="nothing is below a file"),
        pytest.param("{0}/c:d", "c:d", id="a colon of its own"),
        pytest.param("{0}/none", "none", id="one that is not there"),
    ],
)
def test_of_several_folders_the_first_that_exists_has_the_models(tmp_path, text, first):
    """One value may list the folders of several platforms; the first that exists is used."""
    for name in ("a", "b", "empty", "c:d"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "m").mkdir()
    (tmp_path / "file").touch()

    folder = load({"TRICEPS_MODELS": text.format(tmp_path)}).models

    assert folder == tmp_path / first


def test_an_unreadable_folder_is_not_passed_over(tmp_path, monkeypatch):
    """An unreadable folder is an error, since serving other models silently would be worse."""

    def stat(path, **_):
        raise OSError(errno.EACCES if path == Path("/locked") else errno.ENOENT, "")

    monkeypatch.setattr(Path, "stat", stat)

    assert load({"TRICEPS_MODELS": "/none:/locked:/b"}).models == Path("/locked")


def test_an_unreadable_path_is_left_to_its_reader(tmp_path, monkeypatch):
    """The code that reads the folder reports the error, since it knows the way out."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)

    assert load({"TRICEPS_MODELS": str(tmp_path)}).models == tmp_path
    assert load({}, models=str(tmp_path)).models == tmp_path


@pytest.mark.parametrize("text", [":", "::"])
def test_a_colon_alone_is_taken_for_a_name(text):
    """A colon names no existing folder, which the service reports."""
    assert load({"TRICEPS_MODELS": text}).models == Path(text)


def test_a_flag_is_one_path(tmp_path):
    """A flag is one path and is not split at colons."""
    (tmp_path / "b").mkdir()

    assert load({}, models=Path(f"x:{tmp_path}/b")).models == Path(f"x:{tmp_path}/b")


def test_variables_of_other_programs_are_ignored():
    """Only variables with the prefix of Triceps are read."""
    assert load({"MODELS": "x", "WORKERS": "x", "XTRICEPS_PORT": "x", "triceps_port": "x"}) == load(
        {}
    )


@pytest.mark.parametrize(
    "name",
    [
        "TRICEPS_SERVICE_HOST",
        "TRICEPS_SERVICE_PORT",
        "TRICEPS_SERVICE_PORT_HTTP",
        "TRICEPS_PORT_8080_TCP",
        "TRICEPS_PORT_8080_TCP_PROTO",
        "TRICEPS_PORT_8080_TCP_PORT",
        "TRICEPS_PORT_8080_TCP_ADDR",
        "TRICEPS_PORT_53_UDP",
    ],
)
def test_variables_that_kubernetes_injects_are_ignored(name):
    """Kubernetes injects variables for every Service of a namespace, even one called triceps."""
    assert load({name: "10.0.0.1"}) == load({})


@pytest.mark.parametrize(
    ("name", "close"),
    [
        pytest.param("TRICEPS_PROT", " (did you mean 'TRICEPS_PORT'?)", id="a slip"),
        pytest.param("TRICEPS_MODEL", " (did you mean 'TRICEPS_MODELS'?)", id="singular"),
        pytest.param("TRICEPS_XYZ_UVW_QRS", "", id="like none"),
    ],
)
def test_an_unknown_variable_stops_the_start(name, close):
    """The message has the nearest name and all names."""
    with pytest.raises(SettingsError) as raised:
        load({name: "1"})

    known = ", ".join(variable(entry) for entry in fields(Settings))
    assert str(raised.value) == (
        f"{name}: expected a setting, there is none of that name{close}. Available: {known}"
    )
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("environ", "given", "message"),
    [
        pytest.param(
            {"TRICEPS_POLICY": "newest"},
            {},
            "TRICEPS_POLICY: expected one of latest, all, pinned, received 'newest'. "
            "Default: latest",
            id="no policy",
        ),
        pytest.param(
            {"TRICEPS_WATCH": "-1"},
            {},
            "TRICEPS_WATCH: expected a number from 0 to 3600, received '-1'. Default: 1",
            id="before now",
        ),
        pytest.param(
            {"TRICEPS_PORT": "http"},
            {},
            "TRICEPS_PORT: expected a whole number from 1 to 65535, received 'http'. Default: 8080",
            id="text",
        ),
        pytest.param(
            {"PORT": "80.5"},
            {},
            "PORT: expected a whole number from 1 to 65535, received '80.5'. Default: 8080",
            id="a fraction, in PORT",
        ),
        pytest.param(
            {"TRICEPS_PORT": "0"},
            {},
            "TRICEPS_PORT: expected a whole number from 1 to 65535, received '0'. Default: 8080",
            id="no port",
        ),
        pytest.param(
            {},
            {"max_body": 1},
            "--max-body: expected a whole number from 1024 to 2147483647, received 1. "
            "Default: 16777216",
            id="given, too small",
        ),
        pytest.param(
            {"HOST": "\udcff"},
            {},
            r"HOST: expected the name or the address of a host, received '\udcff'. Default: 127",
            id="a host that is not a string",
        ),
        pytest.param(
            {"TRICEPS_HOST": "a..b"},
            {},
            "TRICEPS_HOST: expected the name or the address of a host, received 'a..b'. Default: ",
            id="a host with an empty label",
        ),
        pytest.param(
            {"HOST": "a b"},
            {},
            "HOST: expected the name or the address of a host, received 'a b'. Default: ",
            id="a host with a blank",
        ),
        pytest.param(
            {"INFERENCE_SERVICE_NAME": "a b"},
            {},
            "INFERENCE_SERVICE_NAME: expected at most 128 letters, digits, '_', '.' and '-', the ",
            id="a name that no model can have",
        ),
        pytest.param(
            {"AIP_PREDICT_ROUTE": "/\udcff"},
            {},
            r"AIP_PREDICT_ROUTE: expected a path that begins with /, received '/\udcff'. Default: ",
            id="a path that is not a string",
        ),
        pytest.param(
            {"TRICEPS_CANARY_HEADER": "a b"},
            {},
            "TRICEPS_CANARY_HEADER: expected the name of a header, such as X-User, received 'a b'",
            id="a header with a blank",
        ),
        pytest.param(
            {"TRICEPS_WORKERS": "-1"},
            {},
            "TRICEPS_WORKERS: expected a whole number from ",
            id="a negative number",
        ),
    ],
)
def test_a_wrong_value_stops_the_start(environ, given, message):
    """The message names the variable or flag, the expected and received value, and the default."""
    with pytest.raises(SettingsError) as raised:
        load(environ, **given)

    assert str(raised.value).startswith(message)


def test_every_setting_is_a_flag_with_help():
    """A flag is named like its variable, and its help shows the variable and the default."""

    @click.command()
    @options
    def show(**given):
        click.echo(given)

    text = " ".join(CliRunner().invoke(show, ["--help"]).output.split())
    for entry in fields(Settings):
        assert f"{flag(entry)} " in text
        assert f"[{variable(entry)}" in text
    assert "[TRICEPS_PORT, PORT, AIP_HTTP_PORT, SAGEMAKER_BIND_TO_PORT; default 8080]" in text


def test_flags_arrive_by_the_names_of_the_settings():
    """The arguments of a command can be passed to `load` unchanged."""

    @click.command()
    @options
    def show(**given):
        click.echo(load({}, **given).max_body)

    assert CliRunner().invoke(show, ["--max-body", "2048"]).output == "2048\n"
    assert CliRunner().invoke(show, ["--max-body", "1"]).exit_code == 2


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────

NUMERIC = (click.types.IntParamType, click.types.FloatParamType)
NO_NUMBER = ["nan", "NaN", "-nan", "inf", "Infinity", "-inf", "1e999", "-1e999", "-1", "1e", "0x1"]


def _numbers():
    """Return every option of every command that takes a number."""
    context = click.Context(main)
    for name in main.list_commands(context):
        for option in main.get_command(context, name).params:
            if isinstance(option.type, NUMERIC):
                yield pytest.param(option, id=f"{name} {option.opts[0]}")


@pytest.mark.parametrize("option", list(_numbers()))
@pytest.mark.parametrize("value", NO_NUMBER)
def test_options_refuse_numbers_that_are_negative_or_not_finite(option, value):
    """Options refuse NaN, infinities and negative numbers.

    NaN passes a range check that asks whether a value is outside the range.
    """
    with pytest.raises(click.BadParameter):
        option.type_cast_value(click.Context(click.Command("any")), value)


@pytest.mark.parametrize(
    "entry", [e for e in fields(Settings) if isinstance(e.default, int | float)], ids=flag
)
@pytest.mark.parametrize("value", NO_NUMBER)
def test_variables_refuse_numbers_that_are_negative_or_not_finite(entry, value):
    """The start fails with the expected value and the default."""
    with pytest.raises(SettingsError) as raised:
        load({variable(entry): value})

    message = str(raised.value)
    assert message.startswith(f"{variable(entry)}: expected a ")
    assert f" received {value!r}. Default: {entry.default}" in message
