"""`triceps traffic`, and the file that it writes."""

import json

import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.commands.traffic import traffic
from tests.harness import small


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return the repository `models` of the working directory, with a model of four versions."""
    monkeypatch.chdir(tmp_path)
    for version in (1, 2, 3):
        small.put(tmp_path / "models", "m", version, small.three())
    small.put(tmp_path / "models", "m", 4, small.joint())
    (tmp_path / "models/m/aliases.json").write_text('{"stable": "1"}')
    return tmp_path / "models"


def run(*arguments):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(traffic, [*map(str, arguments)], standalone_mode=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return done.exit_code, done.stdout, str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def written(models):
    """Return the content of the file."""
    return json.loads((models / "m/traffic.json").read_text())


OTHERS = "version 1, which stable names, answers all other requests for m, whatever the policy "
OTHERS += "of the service is"


def test_shares_are_set_changed_listed_and_ended(models):
    """Each change prints what was and what is; what a change does not name stays."""
    assert run("m") == (0, "", "m has no shares: it is served by the policy of the service\n")
    assert run("m", "--canary", 2, "--share", "5%") == (
        0,
        "m, canary: none → version 2, 5% (fail 1%, slower 2)\n",
        f"note: {OTHERS}; to promote the canary: triceps alias m stable 2\n",
    )
    assert written(models) == {
        "canary": {"version": "2", "share": 0.05, "fail": 0.01, "slower": 2.0}
    }
    assert run("m", "--shadow", "3=0.1")[1] == "m, shadow: none → version 3, 10%\n"
    assert run("m") == (
        0,
        "canary version 2, 5% (fail 1%, slower 2)\nshadow version 3, 10%\n",
        "",
    )
    assert run("m", "--canary", "off")[1:] == (
        "m, canary: version 2, 5% (fail 1%, slower 2) → none\n",
        f"note: {OTHERS}\n",
    )
    assert written(models) == {"shadow": {"version": "3", "share": 0.1}}
    code, out, err = run("m", "--off")
    assert (code, out) == (0, "m, shadow: version 3, 10% → none\n")
    assert err == (
        "note: version 1, which stable names, answers all requests for m, whatever the policy of "
        "the service is; to serve m by that policy, remove models/m/traffic.json\n"
    )
    assert written(models) == {}
    assert run("m") == (0, "", "m has no shares: the alias stable answers all requests\n")


def test_a_share_is_that_of_a_version_without_one_behind_it(models):
    """So both may have shares of their own in one command."""
    run("m", "--canary", 2, "--shadow", 3, "--share", "50%")
    both = written(models)
    run("m", "--canary", "2=20%", "--shadow", "3", "--share", "100%")
    own = written(models)

    assert [part["share"] for part in both.values()] == [0.5, 0.5]
    assert [part["share"] for part in own.values()] == [0.2, 1.0]


def test_another_share_of_the_same_version_keeps_its_bounds(models):
    """Another version starts with the usual bounds."""
    run("m", "--canary", "2=5%", "--fail", "0.5%", "--slower", "1.5")
    run("m", "--canary", "2=20%", "--slower", "3")
    raised = written(models)["canary"]
    run("m", "--canary", "3=5%")

    assert raised == {"version": "2", "share": 0.2, "fail": 0.005, "slower": 3.0}
    assert written(models)["canary"] == {
        "version": "3",
        "share": 0.05,
        "fail": 0.01,
        "slower": 2.0,
    }


def test_json_has_the_content_of_the_file(models):
    """Without a file it is null; the note stays on standard error."""
    assert json.loads(run("m", "--json")[1]) == {"model": "m", "traffic": None}
    out = run("m", "--shadow", "2=1", "--json")[1]

    assert json.loads(out) == {"model": "m", "traffic": {"shadow": {"version": "2", "share": 1.0}}}
    assert run("m", "--json") == (0, out, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["n", "--off"], 1, "there is no model 'n'. Available: m", id="no model"),
        pytest.param(
            ["m", "--canary", "9=5%"], 1, "m has no version '9'. Available: 1, 2, 3, 4", id="none"
        ),
        pytest.param(
            ["m", "--canary", "1=5%"],
            1,
            "m, canary: expected another version than 1, which stable names and which answers all "
            "other requests; --canary off ends its share",
            id="stable",
        ),
        pytest.param(
            ["m", "--canary", "4=5%"],
            1,
            "m, canary: version 4 cannot answer requests for version 1, which stable names: it has "
            "no input 'insurance', which the stable version has",
            id="another signature",
        ),
        pytest.param(
            ["m", "--canary", "2"],
            2,
            "expected a share: --canary 2=5%, or --canary 2 --share 5%",
            id="no share",
        ),
        pytest.param(
            ["m", "--share", "5%"],
            2,
            "expected --share beside --canary VERSION or --shadow VERSION without a share",
            id="no version",
        ),
        pytest.param(
            ["m", "--canary", "2=5%", "--share", "5%"],
            2,
            "expected --share beside",
            id="two shares",
        ),
        pytest.param(
            ["m", "--canary", "2=0"],
            2,
            "expected a share like 5% or 0.05, above 0 and up to 1, received '0'",
            id="nothing",
        ),
        pytest.param(
            ["m", "--canary", "2", "--share", "5"],
            2,
            "expected a share like 5% or 0.05, above 0 and up to 1, received '5'",
            id="no per cent",
        ),
        pytest.param(
            ["m", "--canary", "2=nan"], 2, "expected a share like 5% or 0.05", id="no number"
        ),
        pytest.param(
            ["m", "--shadow", "stable=5%"],
            2,
            'expected a version like 4, one with its share like 4=5%, or "off", received',
            id="an alias",
        ),
        pytest.param(
            ["m", "--shadow", "2=5%", "--fail", "1%"],
            2,
            "expected --fail beside --canary VERSION, whose bound it is",
            id="a bound of a shadow",
        ),
        pytest.param(
            ["m", "--canary", "2=5%", "--fail", "2"],
            2,
            "expected a share like 5% or 0.05, from 0 and up to 1, received '2'",
            id="all fail",
        ),
        pytest.param(
            ["m", "--canary", "2=5%", "--slower", "0.5"], 2, "0.5 is not in the range", id="faster"
        ),
        pytest.param(
            ["m", "--off", "--canary", "2=5%"],
            2,
            "expected --off alone; --canary off ends the share of the canary",
            id="off and on",
        ),
    ],
)
def test_wrong_arguments_are_refused_and_change_nothing(models, arguments, code, message):
    """The error says what was expected, and what to do."""
    (models / "m/traffic.json").write_text("{}")

    exit_code, out, err = run(*arguments)

    assert (exit_code, out) == (code, "")
    assert message in err.replace("\n", " ")
    assert written(models) == {}


def test_shares_need_a_stable_version(models):
    """The error names the command that makes one, and a version that is no candidate."""
    (models / "m/aliases.json").unlink()

    code, out, err = run("m", "--canary", "4=5%")

    assert (code, out) == (1, "")
    assert err == (
        "m has no alias 'stable', which names the version that answers all other requests: "
        "triceps alias m stable 3"
    )
    assert run("m", "--off")[2] == "note: traffic.json has no effect without an alias stable\n"


def test_a_shadow_may_have_another_signature(models):
    """It is compared on the heads that both have, and answers nobody."""
    assert run("m", "--shadow", "4=5%")[0] == 0
    assert written(models)["shadow"]["version"] == "4"


def test_a_version_that_would_be_refused_gets_no_share(models):
    """The error is shown to the user of the command, instead of appearing in a log."""
    small.put(models, "m", 5, b"not a model")

    assert run("m", "--shadow", "5=5%") == (
        1,
        "",
        "m, version 5: refused, it is not an ONNX file, or not the whole of one",
    )


@pytest.mark.parametrize("arguments", [["m"], ["m", "--off"]], ids=["list", "change"])
def test_a_damaged_file_is_not_written_over(models, arguments):
    """The file may still be fixed by hand."""
    (models / "m/traffic.json").write_text("{")

    message = run(*arguments)[2]
    assert message.startswith("models/m/traffic.json: expected JSON like")
    assert message.endswith("; mend the file, or remove it")
    assert (models / "m/traffic.json").read_text() == "{"


def test_promoting_the_canary_says_that_its_share_is_over(models):
    """To move the alias `stable` changes what clients get, whatever the policy is."""
    (models / "m/traffic.json").write_text(
        '{"canary": {"version": "2", "share": 0.05}, "shadow": {"version": "3", "share": 0.1}}'
    )

    def note(*arguments):
        done = CliRunner().invoke(main, ["alias", "m", "stable", *arguments])
        assert done.exit_code == 0
        return done.stderr

    because = "whatever the policy of the service is, since there is a file traffic.json"
    promoted = note("2")
    answers = f"version 2 answers all requests at /models/m/predict, {because}"
    moved = note("3")

    assert promoted == (
        f"note: {answers}; its own share has no effect any more: triceps traffic m --off\n"
    )
    assert moved.startswith(
        "note: version 3 answers all requests but for the share of version 2 at /models/m/predict, "
        f"{because}; its own share"
    )
    assert note("--remove") == (
        "note: traffic.json has no effect any more, and m is served by the policy of the service\n"
    )


def test_versions_with_a_share_are_not_pruned(models):
    """They stay as those of aliases do."""
    (models / "m/traffic.json").write_text('{"canary": {"version": "2", "share": 0.05}}')
    done = CliRunner().invoke(main, ["prune", "m", "--keep", "1"])

    assert done.stdout.splitlines() == [
        "removed m, version 3",
        "m keeps 1 (alias stable), 2 (canary in traffic.json), 4",
    ]
