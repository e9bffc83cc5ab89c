"""`triceps init`: one file, which is never overwritten unasked, and which trains as it is."""

import os
import re

import pytest
from click.testing import CliRunner

from service.commands.main import main
from tests.training.init.tables import penguins
from training import spec as specs
from training.init.command import init


@pytest.fixture(name="run")
def _run(tmp_path, monkeypatch):
    """Return a function that runs the command in a folder with `birds.csv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(main.commands, "init", init)
    (tmp_path / "birds.csv").write_text(penguins())

    def run(*arguments, **more):
        return CliRunner().invoke(main, ["init", *map(str, arguments)], **more)

    return run


def test_a_spec_is_written_beside_the_table(run, tmp_path):
    """The last line says what comes next; what was left out is on standard error."""
    (tmp_path / "birds.csv").write_text(penguins().replace("\n", ",7\n").replace(",7", ",ring", 1))

    done = run("birds.csv", "--head", "species", "--head", "body_mass_g")

    assert done.exit_code == 0
    assert done.stdout == "wrote birds.toml; next: triceps train birds.toml\n"
    assert done.stderr.splitlines() == [
        "left out 'ring' of birds.csv: '7' in every row",
        "head species: multiclass (3 different texts)",
        "head body_mass_g: regression (numbers)",
    ]
    assert list(specs.load(tmp_path / "birds.toml").heads) == ["species", "body_mass_g"]


def test_a_spec_is_overwritten_only_by_force(run, tmp_path):
    """A spec that a person has edited is not lost."""
    (tmp_path / "birds.toml").write_text("mine")

    refused = run("birds.csv", "--head", "species")
    assert refused.exit_code == 2
    assert "birds.toml: is there already; --force overwrites it" in refused.stderr
    assert (tmp_path / "birds.toml").read_text() == "mine"

    typo = run("birds.csv", "--head", "specie")
    assert "--head specie: no column 'specie' (did you mean 'species'?)" in typo.stderr

    assert run("birds.csv", "--head", "species", "--force").exit_code == 0
    assert "[heads.species]" in (tmp_path / "birds.toml").read_text()


def test_a_table_is_never_overwritten(run, tmp_path):
    """Not by force either, and by no name that it has beside its own."""
    (tmp_path / "link.toml").symlink_to("birds.csv")

    for out in ("birds.csv", "link.toml"):
        done = run("birds.csv", "--head", "species", "--out", out, "--force")

        expected = f"--out {out}: is the table birds.csv; name another file for the spec"
        assert (done.exit_code, done.stderr) == (2, f"triceps: {expected}\n")
    assert (tmp_path / "birds.csv").read_text() == penguins()


def test_a_spec_may_lie_elsewhere(run, tmp_path):
    """The spec names the table by its way from there."""
    (tmp_path / "specs").mkdir()

    assert run("birds.csv", "--head", "sex", "--out", "specs/sex.toml").exit_code == 0

    assert specs.load(tmp_path / "specs" / "sex.toml").inputs["birds"].csv == "../birds.csv"
    missing = run("birds.csv", "--head", "sex", "--out", "nowhere/sex.toml")
    assert (missing.exit_code, "nowhere/sex.toml: cannot be written" in missing.stderr) == (2, True)


def test_a_head_is_asked_for_at_a_terminal_alone(run, monkeypatch):
    """A script gets an error that lists the columns."""
    refused = run("birds.csv")
    assert refused.exit_code == 2
    assert "--head: missing; expected one or more of species, island," in refused.stderr

    monkeypatch.setattr("training.init.command.at_terminal", lambda: True)
    done = run("birds.csv", input="species, sex\n")
    assert done.exit_code == 0
    assert "head sex: binary" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["bird.csv", "--head", "sex"],
            "TABLE: no file 'bird.csv' in '.' (did you mean 'birds.csv'",
        ),
        (["birds.csv", "--head", "sexe"], "--head sexe: no column 'sexe' (did you mean 'sex'?)"),
        (["birds.csv", "--head", "sex", "--name", "a b"], "--name: expected at most 128 letters"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(run, tmp_path, arguments, message):
    """Exit code 2, and the way out."""
    done = run(*arguments)

    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["birds.csv"]


def test_a_path_that_no_spec_can_hold_is_refused(run, tmp_path):
    """A path on Linux is bytes, and a spec is UTF-8."""
    odd = tmp_path / os.fsdecode(b"b\xff.csv")
    (tmp_path / "birds.csv").rename(odd)

    done = run(odd.name, "--head", "sex", "--name", "birds")

    assert (done.exit_code, "TABLE: expected a path in UTF-8" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == [odd.name]


def test_the_same_table_gives_the_same_text(run, tmp_path):
    """The choices follow from the data alone."""
    run("birds.csv", "--head", "species")
    first = (tmp_path / "birds.toml").read_bytes()
    run("birds.csv", "--head", "species", "--force")

    assert (tmp_path / "birds.toml").read_bytes() == first


@pytest.mark.keras
def test_a_spec_of_a_good_table_has_no_warnings(run, tmp_path):
    """What init chooses is no reason for `--strict` to refuse the model."""
    pytest.importorskip("keras", reason="needs the train extra")
    from tests.training.runs import run as train

    lines = [(n * 37 % 101, n * 53 % 89) for n in range(300)]
    lines = [f"{a},{b},{'yes' if a + b > 95 else 'no'}" for a, b in lines]
    (tmp_path / "sums.csv").write_text("\n".join(["a,b,large", *lines]) + "\n")
    run("sums.csv", "--head", "large")

    done = train("train", "sums.toml", "--models", tmp_path / "models", "--strict")

    assert done.exit_code == 0, (done.output, done.exception)
    assert "240 + 30 + 30" in done.stdout


@pytest.mark.keras
def test_a_spec_trains_as_it_is_and_beats_the_baseline(run, tmp_path):
    """A user without experience gets a good model at the first try, whatever kind its heads are."""
    pytest.importorskip("keras", reason="needs the train extra")
    from service.inference.model import Model
    from tests.training.runs import run as train

    (tmp_path / "birds.csv").write_text(penguins(300))
    run("birds.csv", "--head", "species", "--head", "body_mass_g", "--head", "sex")

    done = train("train", "birds.toml", "--models", tmp_path / "models", "--epochs", 30)

    assert done.exit_code == 0, (done.output, done.exception)
    model = Model.load((tmp_path / "models" / "birds" / "1" / "model.onnx").read_bytes())
    scores = model.signature.provenance["scores"]
    assert scores["species"]["test"] > 0.9 > scores["species"]["baseline"]
    assert scores["body_mass_g"]["test"] < 0.7 * scores["body_mass_g"]["baseline"]
    assert re.search(r"batching: rows \(operators\)", done.output)
