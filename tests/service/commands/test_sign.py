"""`triceps sign`: a foreign file gets names, and is served by them."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from service.app import create_app
from service.commands.main import main
from service.inference.model import Model
from service.settings import Settings
from service.signature import Feature, Golden, Head, Input, Tensor, tabular
from tests.harness import small

F, S = TensorProto.FLOAT, TensorProto.STRING


def foreign():
    """Return a foreign model: a table, pixels, strings and more in; five heads out."""
    return small.model(
        [
            helper.make_node("ReduceSum", ["customer", "last"], ["churn/logit"], keepdims=1),
            helper.make_node("Sigmoid", ["churn/logit"], ["churn"]),
            helper.make_node("Mul", ["pixels", "two"], ["digit"]),
            helper.make_node("Identity", ["word"], ["echo"]),
            helper.make_node("Cast", ["count"], ["counted"], to=F),
            helper.make_node("Relu", ["any"], ["anything"]),
        ],
        [
            ("customer", F, ["N", 2]),
            ("pixels", F, ["N", 4]),
            ("word", S, ["N", 2]),
            ("count", TensorProto.INT8, ["N", 1]),
            ("any", F, ["N", None]),
            ("flag", TensorProto.BOOL, ["N", 1]),
        ],
        [
            ("anything", F, ["N", None]),
            ("churn", F, ["N", 1]),
            ("digit", F, ["N", 4]),
            ("echo", S, ["N", 2]),
            ("counted", F, ["N", 1]),
        ],
        {"last": np.array([1]), "two": np.float32([2, 2, 2, 2])},
    )


@pytest.fixture
def file(tmp_path):
    """Write the foreign model to a file, and return its path."""
    path = tmp_path / "foreign.onnx"
    path.write_bytes(foreign().SerializeToString())
    return path


def run(*arguments):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(main, ["sign", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def signed(file, *arguments):
    """Sign FILE, and return its signature afterwards."""
    out = file.with_name("signed.onnx")
    code, printed, complaint = run(file, *arguments, "--out", out)
    first, *rest = printed.splitlines()
    assert (code, rest, complaint) == (0, [f"wrote {out}"], "")
    assert first.startswith("batching: rows (operators): ")
    return Model.load(out).signature


def test_all_options_are_written_into_the_file(file):
    """Features, defaults, a size, labels, kinds, thresholds and views are added; the rest stays."""
    signature = signed(
        file,
        *("--features", "customer=age, income"),
        *("--features", "word=first,last"),
        *("--default", "customer.age=38"),
        *("--default", "customer.income=1.5e3"),
        *("--default", "word.first=none"),
        *("--size", "pixels=2x2"),
        *("--labels", "churn=stays, leaves"),
        *("--labels", "digit=a,b,c,d"),
        *("--kind", "digit=multilabel"),
        *("--kind", "counted=regression"),
        *("--threshold", "digit=0.25"),
        *("--view", "two=churn,digit"),
    )

    before = Model.load(file).signature
    words = tabular(
        "word", [Feature("first", "word", 0, "none"), Feature("last", "word")], "string"
    )
    assert signature == replace(
        before,
        inputs={
            **before.inputs,
            "customer": tabular(
                "customer", [Feature("age", "", default=38), Feature("income", "", default=1500.0)]
            ),
            "word": words,
            "pixels": Input("pixels", "image", (Tensor("pixels", "float32", (4,)),), size=(2, 2)),
        },
        heads={
            **before.heads,
            "churn": replace(before.heads["churn"], kind="binary", labels=("stays", "leaves")),
            "digit": Head(
                "digit",
                "multilabel",
                Tensor("digit", "float32", (4,)),
                ("a", "b", "c", "d"),
                0.25,
                ("pixels",),
            ),
            "counted": replace(before.heads["counted"], kind="regression"),
        },
        models={"two": ("churn", "digit")},
    )


def test_a_signed_file_is_served_by_its_names(file, tmp_path):
    """The answer has a label and an imputed value."""
    models = tmp_path / "models"

    done = run(
        file,
        *("--features", "customer=age,income"),
        *("--default", "customer.age=-2"),
        *("--labels", "churn=stays,leaves"),
        *("--view", "risk=churn"),
        *("--name", "shop", "--models", models),
    )
    client = create_app(Settings(models=models)).test_client()
    answer = client.post("/models/risk/predict", json={"instances": [{"customer": {"income": 2}}]})

    batching = "batching: rows (operators): 6 operators handle each row by itself"
    assert done == (0, f"{batching}\npublished shop, version 1: {models}/shop/1/model.onnx\n", "")
    assert (answer.status_code, answer.json) == (
        200,
        {
            "model": "risk",
            "version": "1",
            "predictions": [{"churn": {"value": 0.5, "label": "stays"}}],
            "imputed": [{"at": "instances[0].customer.age", "value": -2}],
        },
    )


def test_an_earlier_signature_is_kept_except_for_the_options(file, tmp_path):
    """A default can be added to a model that was trained here, and its golden rows stay."""
    before = small.three_signature(models={"v": ["risk"]})
    path = tmp_path / "three.onnx"
    path.write_bytes(small.three(models={"v": ["risk"]}))

    after = signed(path, "--default", "insurance.bmi=25", "--labels", "risk=no,yes")

    insurance = after.inputs["insurance"]
    assert [feature.default for feature in insurance.features] == [38, "no", 25]
    assert insurance.features[0].statistics == before.inputs["insurance"].features[0].statistics
    assert after.golden == before.golden
    assert after.models == {"v": ("risk",)}
    assert (after.heads["risk"].labels, after.heads["risk"].threshold) == (("no", "yes"), 0.5)
    assert after.heads["digits"].labels == ("zero", "one", "two")


def test_another_kind_drops_the_former_labels(tmp_path):
    """A regression head has no labels."""
    path = tmp_path / "three.onnx"
    path.write_bytes(small.three())

    head = signed(path, "--kind", "risk=regression").heads["risk"]

    assert (head.kind, head.labels, head.threshold) == ("regression", None, None)


def test_an_image_is_no_table_any_more(tmp_path):
    """An image and a table are different forms of the same numbers."""
    path = tmp_path / "three.onnx"
    path.write_bytes(small.three())

    fruit = signed(path, "--size", "fruit=1x2").inputs["fruit"]

    assert (fruit.kind, fruit.size, fruit.features) == ("image", (1, 2), ())


def test_a_boolean_has_a_boolean_default(file):
    """The default is a boolean, as in JSON."""
    flag = signed(file, "--features", "flag=f", "--default", "flag.f=true").inputs["flag"]

    assert [feature.default for feature in flag.features] == [True]


def test_weights_beside_the_file_are_included(tmp_path):
    """The signed file needs no other file."""
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "model.onnx"
    # The threshold is in bytes as Python counts them, of which an empty string has 33. The axes
    # stay inside, since ONNX Runtime would not look for them elsewhere.
    onnx.save(foreign(), path, save_as_external_data=True, location="w.bin", size_threshold=45)
    out = tmp_path / "alone.onnx"

    assert run(path, "--labels", "churn=no,yes", "--out", out)[0] == 0
    assert Model.load(out).signature.heads["churn"].labels == ("no", "yes")
    assert (tmp_path / "a" / "w.bin").stat().st_size == 16


def test_metadata_of_others_is_kept(file):
    """The file's other metadata stays as it is."""
    model = foreign()
    model.metadata_props.add(key="author", value="somebody")
    file.write_bytes(model.SerializeToString())

    signed(file)
    again = onnx.load(file.with_name("signed.onnx"))

    assert {entry.key: entry.value for entry in again.metadata_props} == {
        "author": "somebody",
        "triceps": json.dumps(
            {
                "format": 1,
                "inputs": {
                    name: {"kind": "tensor"}
                    for name in ("customer", "pixels", "word", "count", "any", "flag")
                },
                "heads": {
                    name: {"kind": "tensor"}
                    for name in ("anything", "churn", "digit", "echo", "counted")
                },
                "models": {},
                "provenance": {},
            },
            separators=(",", ":"),
        ),
    }


def test_signing_twice_gives_the_same_bytes(file):
    """Neither the time nor the machine is written into the file."""
    signed(file, "--labels", "churn=a,b")
    first = file.with_name("signed.onnx").read_bytes()

    signed(file, "--labels", "churn=a,b")

    assert file.with_name("signed.onnx").read_bytes() == first


def test_a_file_may_be_signed_in_place(file):
    """The file is read whole before it is written."""
    assert run(file, "--labels", "churn=a,b", "--out", file)[0] == 0
    assert Model.load(file).signature.heads["churn"].labels == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--features", "custmer=a,b"],
            "--features: expected one of the inputs customer, pixels, word, count, any, flag; "
            "received custmer (did you mean 'customer'?)",
            id="an unknown input",
        ),
        pytest.param(
            ["--labels", "chrun=a,b"],
            "--labels: expected one of the heads anything, churn, digit, echo, counted; "
            "received chrun (did you mean 'churn'?)",
            id="an unknown head",
        ),
        pytest.param(
            ["--view", "v=churn,digits"],
            "--view: expected one of the heads anything, churn, digit, echo, counted; "
            "received digits (did you mean 'digit'?)",
            id="a view of an unknown head",
        ),
        pytest.param(
            ["--view", "a/b=churn"],
            "model name: expected at most 128 letters, digits, '_', '.' and '-', "
            "the first none of the last two, received 'a/b'",
            id="a view that no URL can name",
        ),
        pytest.param(
            ["--features", "customer=a"],
            "--features: expected 2 names for 'customer'; received a",
            id="too few features",
        ),
        pytest.param(
            ["--features", "customer=a,a"],
            "--features: expected different names between commas; received a,a",
            id="a feature twice",
        ),
        pytest.param(
            ["--features", "customer=a,"],
            "--features: expected different names between commas; received a,",
            id="a feature without a name",
        ),
        pytest.param(
            ["--features", "any=a,b"],
            "--features: expected an input that is one list of a fixed length; "
            "received 'any', float32[any] a row",
            id="features of any number",
        ),
        pytest.param(
            ["--default", "customer.age=1"],
            "--default: expected INPUT.FEATURE, and the features of 'customer' have no names; "
            "received customer.age; name them first: --features customer=age,… (2 names)",
            id="a default without features",
        ),
        pytest.param(
            ["--default", "count=1"],
            "--default: expected INPUT.FEATURE, and the features of 'count' have no names; "
            "received count; name them first: --features count=count",
            id="a default of an input of one value",
        ),
        pytest.param(
            ["--features", "customer=age,income", "--default", "flag.f=true"],
            "--default: expected INPUT.FEATURE, and the features of 'flag' have no names; "
            "received flag.f; name them first: --features flag=f",
            id="a default without features, beside others",
        ),
        pytest.param(
            ["--default", "any.first=1"],
            "--default: expected an input that is one list of a fixed length; "
            "received 'any', float32[any] a row",
            id="a default of an input that can have no features",
        ),
        pytest.param(
            ["--default", "custmer=1"],
            "--default: expected one of the inputs customer, pixels, word, count, any, flag; "
            "received custmer (did you mean 'customer'?)",
            id="a default of an unknown input",
        ),
        pytest.param(
            ["--features", "customer=age,income", "--default", "customer.agee=1"],
            "--default: expected one of customer.age, customer.income; "
            "received customer.agee (did you mean 'customer.age'?)",
            id="a default of an unknown feature",
        ),
        pytest.param(
            ["--features", "customer=age,income", "--default", "customer.age=old"],
            "--default: expected a number; received old",
            id="text for a number",
        ),
        pytest.param(
            ["--features", "customer=age,income", "--default", "customer.age=nan"],
            "--default: expected a number; received nan",
            id="NaN",
        ),
        pytest.param(
            ["--features", "customer=age,income", "--default", "customer.age=1e999"],
            "--default: expected a number; received 1e999",
            id="infinity",
        ),
        pytest.param(
            ["--features", "count=n", "--default", "count.n=1.5"],
            "--default: expected a number that int8 holds; received 1.5",
            id="half a whole number",
        ),
        pytest.param(
            ["--features", "count=n", "--default", "count.n=200"],
            "--default: expected a number that int8 holds; received 200",
            id="a number past its dtype",
        ),
        pytest.param(
            ["--features", "flag=f", "--default", "flag.f=1"],
            "--default: expected true or false; received 1",
            id="a number for a boolean",
        ),
        pytest.param(
            ["--labels", "anything=a,b"],
            "--labels: expected a head of a fixed length, and 'anything' is not; received a,b",
            id="labels of any number",
        ),
        pytest.param(
            ["--size", "pixels=2x3"],
            "--size: expected axes like 28x28, of 4 values in all; received 2x3",
            id="another size",
        ),
        pytest.param(
            ["--size", "pixels=2xtwo"],
            "--size: expected axes like 28x28, of 4 values in all; received 2xtwo",
            id="no size",
        ),
        pytest.param(
            ["--size", "any=2x2"],
            "--size: expected an input of numbers, of a fixed length; "
            "received 'any', float32[any] a row",
            id="a size of any length",
        ),
        pytest.param(
            ["--labels", "churn=a,b,c"],
            "--labels: expected 2 labels for the binary head 'churn'; received a,b,c",
            id="too many labels",
        ),
        pytest.param(
            ["--labels", "digit=a,b,c,a"],
            "--labels: expected different names between commas; received a,b,c,a",
            id="a label twice",
        ),
        pytest.param(
            ["--kind", "churn=binry"],
            "--kind: expected one of binary, multiclass, multilabel, regression, tensor; "
            "received binry (did you mean 'binary'?)",
            id="an unknown kind",
        ),
        pytest.param(
            ["--kind", "digit=binary"],
            "{file}: the options do not fit it: head 'digit' is binary, and not one value but "
            "float32[4] a row",
            id="a kind that is not its head's",
        ),
        pytest.param(
            ["--labels", "echo=a,b"],
            "{file}: the options do not fit it: head 'echo' is multiclass, and its values are "
            "texts",
            id="labels of texts",
        ),
        pytest.param(
            ["--threshold", "churn=0.5"],
            "--threshold: expected a binary or multilabel head, and 'churn' is tensor; "
            "received 0.5",
            id="a threshold of no class",
        ),
        pytest.param(
            ["--labels", "churn=a,b", "--threshold", "churn=half"],
            "--threshold: expected a number; received half",
            id="no threshold",
        ),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(file, arguments, message):
    """The exit code is 2, the error names what was expected, and no file is written."""
    out = file.with_name("out.onnx")

    done = run(file, *arguments, "--out", out)

    assert done == (2, "", f"triceps: {message.format(file=file)}\n")
    assert not out.exists()


def test_a_default_outside_the_vocabulary_is_refused(tmp_path):
    """The model would never find that default in its vocabulary."""
    path = tmp_path / "three.onnx"
    path.write_bytes(small.three())

    done = run(path, "--default", "insurance.smoker=yess", "--out", tmp_path / "out.onnx")

    assert done == (
        2,
        "",
        (
            "triceps: --default: expected one of no, yes for insurance.smoker; "
            "received yess (did you mean 'yes'?)\n"
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "expected one of --out FILE and --name MODEL", id="no place"),
        pytest.param(
            ["--out", "a.onnx", "--name", "a"],
            "expected one of --out FILE and --name MODEL",
            id="two places",
        ),
        pytest.param(
            ["--labels", "churn", "--name", "a"],
            "expected NAME=VALUE, received 'churn'",
            id="no value",
        ),
        pytest.param(
            ["--features", "customer=age,\udcff", "--name", "a"],
            r"expected UTF-8, received 'customer=age,\udcff'",
            id="no UTF-8",
        ),
        pytest.param(
            ["--labels", "churn=a,b", "--labels", "churn=c,d", "--name", "a"],
            "expected each name once, received 'churn' again",
            id="one name twice",
        ),
    ],
)
def test_a_wrong_command_is_reported(file, arguments, words):
    """The exit code is 2, as for errors of click."""
    code, out, err = run(file, *arguments)

    assert (code, out) == (2, "")
    assert words in err


def test_the_help_says_that_options_repeat():
    """A file with several heads needs `--labels` for each."""
    _, printed, _ = run("--help")

    assert "Options with an equals sign may be given several times" in " ".join(printed.split())


def test_a_model_name_is_checked_before_the_work(file, tmp_path):
    """No folder is made for the model."""
    code, _, err = run(file, "--name", "a b", "--models", tmp_path / "models")

    assert (code, err) == (
        2,
        (
            "triceps: model name: expected at most 128 letters, digits, '_', '.' and '-', "
            "the first none of the last two, received 'a b'\n"
        ),
    )
    assert not (tmp_path / "models").exists()


def test_a_file_that_cannot_be_served_is_not_signed(tmp_path):
    """The exit code is 1: the command is right, but the file is not."""
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"bad")

    assert run(path, "--out", tmp_path / "out.onnx") == (
        1,
        "",
        f"triceps: {path}: it is not an ONNX file, or not the whole of one\n",
    )


def test_signing_does_not_repair_a_damaged_signature(tmp_path):
    """It would not be clear which part of it was kept."""
    model = foreign()
    model.metadata_props.add(key="triceps", value="{")
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())

    code, _, err = run(path, "--out", tmp_path / "out.onnx")

    assert code == 1
    assert err.startswith(f"triceps: {path}: its metadata 'triceps' is not JSON: ")


def test_a_foreign_file_has_no_golden_rows(file):
    """The right answers of the model are not known."""
    assert signed(file).golden is None


def test_golden_rows_are_checked_when_signing(tmp_path):
    """A file that does not answer its golden rows is refused before it is signed."""
    signature = small.three_signature()
    wrong = Golden(signature.golden.inputs, {"size": [[1.0], [1.0]]})
    path = tmp_path / "wrong.onnx"
    path.write_bytes(
        small.signed(onnx.load_from_string(small.three()), replace(signature, golden=wrong))
    )

    code, _, err = run(path, "--out", tmp_path / "out.onnx")

    assert code == 1
    assert "head 'size' does not answer its golden rows" in err


def test_rows_become_the_reference(file, tmp_path):
    """Features, summaries of vectors and answers of the file's rows are in its signature."""
    rows = tmp_path / "rows.csv"
    lines = [f"{n % 50},{n},{n % 2},{n % 3},{n % 5},{n % 7}" for n in range(100)]
    others = ',"[""a"", ""b""]",1,"[1, 2]",true'
    header = "age,income,pixels.0,pixels.1,pixels.2,pixels.3,word,count,any,flag"
    rows.write_text("\n".join([header, *(line + others for line in lines)]))
    options = ("--features", "customer=age,income", "--labels", "churn=stays,leaves")
    size = ("--size", "pixels=2x2", "--default", "customer.age=30")

    reference = signed(file, *options, *size, "--reference", rows).reference

    assert reference.rows == {"inputs": "given", "heads": "given"}
    assert list(reference.inputs) == ["customer", "pixels", "count", "any"]
    assert reference.inputs["customer"]["age"].counts == (10,) * 10
    assert reference.inputs["customer"]["income"].edges[::10] == (0.0, 99.0)
    assert list(reference.inputs["pixels"]) == ["mean", "deviation", "ink"]
    assert reference.inputs["count"][""].counts == (100,)
    assert reference.heads["churn"][""].texts == ("stays", "leaves")
    assert sum(reference.heads["churn"][""].counts) == 100
    assert list(reference.heads["digit"]) == ["0", "1", "2", "3"]
    assert "echo" not in reference.heads  # texts of several values


def test_a_reference_stays_until_its_features_or_labels_change(file, tmp_path):
    """A default or a view changes no distribution; other names, sizes and labels do."""
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "customer.0,customer.1,pixels,word,count,any,flag\n"
        + '1,2,"[1, 2, 3, 4]","[""a"", ""b""]",1,"[1, 2]",true\n' * 20
    )
    first = signed(file, "--reference", rows)
    path = file.with_name("signed.onnx")
    kept = file.with_name("kept.onnx")
    kept.write_bytes(path.read_bytes())

    view = signed(kept, "--view", "some=churn,digit").reference
    named = signed(kept, "--features", "customer=age,income", "--size", "pixels=2x2").reference
    labelled = signed(kept, "--labels", "churn=no,yes", "--kind", "digit=multilabel").reference

    assert view == first.reference
    assert set(first.reference.inputs) - set(named.inputs) == {"customer", "pixels"}
    assert named.heads == first.reference.heads
    assert set(first.reference.heads) - set(labelled.heads) == {"churn", "digit"}


def test_a_reference_needs_rows_that_the_model_takes(file, tmp_path):
    """No rows, a missing column and a wrong cell are errors, and nothing is written."""
    out = tmp_path / "out.onnx"
    rows = tmp_path / "rows.csv"
    messages = []
    header = "customer.0,customer.1,pixels,word,count,any,flag\n"
    for text in (header, "age\n1\n", header + '1,x,"[1,2,3,4]","[""a"",""b""]",1,"[1]",1\n'):
        rows.write_text(text)
        code, _, said = run(file, "--reference", rows, "--out", out)
        messages.append((code, said))

    assert [code for code, _ in messages] == [1, 2, 1]
    assert messages[0][1] == f"triceps: {rows}: expected rows for the reference, received none\n"
    assert "expected columns of the input 'customer'" in messages[1][1]
    assert f"{rows}, line 2, customer[1]: expected a number, received" in messages[2][1]
    assert not out.exists()
