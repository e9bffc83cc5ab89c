"""Who may import whom: the arrows of the design, held by reading every import there is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"training", "tensorflow", "keras", "tf2onnx", "pandas"}
# What training needs of the service: the contract, and to load and publish what it made.
OFFERED = {"errors", "memory", "model", "publish", "settings", "signature"}


def imports(path):
    """The full names that a file imports anywhere in its code, type-checking blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules(package):
    """By dotted name, the files of a package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def needs(name, path):
    """The modules of our own that a module imports, by their names in the service."""
    ours = modules("service")
    return {
        imported.removeprefix("service.")
        for imported in imports(path)
        if imported in ours and imported not in ("service", name)
    }


def test_the_service_imports_nothing_of_training():
    """Not even where it would only be needed sometimes: it serves where none of it is."""
    wrong = {
        f"{name}: {imported}"
        for name, path in modules("service").items()
        for imported in imports(path)
        if imported.partition(".")[0] in HEAVY
    }

    assert wrong == set()


def test_training_imports_the_contract_alone():
    """What it needs of the service is the signature, the model, publishing, errors and settings."""
    used = {
        (name, imported.split(".")[1])
        for name, path in modules("training").items()
        for imported in imports(path)
        if imported.startswith("service.")
    }

    assert {pair for pair in used if pair[1] not in OFFERED} == set()


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        pytest.param("errors", set(), id="errors know nobody"),
        pytest.param("signature", {"errors"}, id="the signature knows errors alone"),
        pytest.param("files", {"errors"}, id="files know nothing of what they hold"),
        pytest.param("publish", {"errors", "files"}, id="publishing knows no model"),
        pytest.param(
            "model",
            {
                *("batching", "cuts", "declared", "errors", "runtime", "signature"),
                *("integer_division", "row_independence", "row_trial", "training_mode"),
            },
            id="a model knows its signature",
        ),
        pytest.param("batching", set(), id="a verdict is a record"),
        pytest.param("runtime", set(), id="what the runtime says needs none of ours"),
        pytest.param("declared", set(), id="what a graph declares needs none of ours"),
        pytest.param(
            "model_settings", {"errors", "files", "scan"}, id="settings of a model are a file"
        ),
        pytest.param(
            "row_independence",
            {"operators", "row_lengths", "row_rules", "row_values"},
            id="a proof knows operators alone",
        ),
        pytest.param("row_trial", {"signature"}, id="a trial of rows runs what it is given"),
        pytest.param(
            "repository",
            {"aliases", "errors", "publish", "scan", "signature", "stock"},
            id="the repository knows what is in stock",
        ),
        pytest.param(
            "stock",
            {"aliases", "errors", "model", "model_settings", "proof", "scan", "signature", "trial"},
            id="the stock knows models",
        ),
        pytest.param(
            "trial",
            {"descriptors", "errors", "memory", "model", "proof"},
            id="a trial knows the model alone",
        ),
        pytest.param("scan", {"errors", "publish"}, id="looking reads nothing"),
        pytest.param("unloaded", {"errors", "files", "scan"}, id="a mark is a file"),
        pytest.param(
            "life",
            {"errors", "heap", "repository", "scan", "settings", "stock", "unloaded"},
            id="life knows no app",
        ),
        pytest.param("heap", set(), id="the heap is the C library's"),
        pytest.param("run", set(), id="a run knows nobody"),
        pytest.param("cuts", set(), id="cuts know no graph"),
        pytest.param("bound", set(), id="a bound knows no queue"),
        pytest.param(
            "batcher",
            {"bound", "model", "run", "wire.numbers"},
            id="the batcher knows models and no request",
        ),
    ],
)
def test_the_arrows_point_one_way(module, allowed):
    """From the app to the repository to the model to the signature, and never back."""
    assert needs(f"service.{module}", modules("service")[f"service.{module}"]) <= allowed


def test_settings_know_no_part_of_what_they_set():
    """They are read before anything is loaded."""
    known = needs("service.settings", modules("service")["service.settings"])

    assert known & {"app", "model", "repository", "signature", "serve", "wire"} == set()


def test_the_wire_is_free_of_the_web_and_of_the_model():
    """Bytes to arrays and back: a dialect can be read, and tested, on its own."""
    for name, path in modules("service").items():
        if name.startswith("service.wire"):
            tops = {imported.partition(".")[0] for imported in imports(path)}
            assert tops & {"flask", "werkzeug", "uvloop", "onnxruntime", "onnx"} == set(), name
            assert needs(name, path) & {"app", "model", "repository", "serve", "settings"} == set()


# The native dialect is three files; each of the others is a folder.
DIALECTS = {
    "native": ("native",),
    **{name: (name,) for name in ("oip", "tfserving", "mlflow")},
}
# What they share, a floor at a time: each knows those below it.
SHARED = [
    {"pieces"},
    {"body", "labels", "written"},
    {"cells", "dialect", "tensors", "values"},
    {"columns", "quick"},
    {"numbers"},
]


def wire(*tops):
    """The modules below `service.wire` that are files of these names, or in folders of them."""
    return {
        name: path
        for name, path in modules("service").items()
        if name.startswith("service.wire.") and name.split(".")[2] in tops
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_dialect_knows_another(dialect):
    """Each imports its own parts, what is shared, signatures, runs and errors, and may go."""
    own = wire(*DIALECTS[dialect])
    allowed = {name.removeprefix("service.") for name in (*own, *wire(*set().union(*SHARED)))}

    for name, path in own.items():
        assert needs(name, path) <= {*allowed, "wire", "signature", "errors", "run"}, name


def test_what_dialects_share_knows_none_of_them():
    """It is built floor upon floor, and there is nothing else."""
    below = {"signature", "errors", "run"}
    for floor in SHARED:
        for name, path in wire(*floor).items():
            assert needs(name, path) <= {*below, "wire"}, name
        below |= {f"wire.{name}" for name in floor}

    known = wire(*set().union(*SHARED, *DIALECTS.values()))
    assert {name for name in modules("service") if name.startswith("service.wire.")} == set(known)


_BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"{name} is not here", name=name)

sys.meta_path.insert(0, Blocked())
from pathlib import Path
from service.app import create_app
from service.settings import Settings

client = create_app(Settings(models=Path(sys.argv[1]))).test_client()
example = client.get("/models/three/example").json
answer = client.post("/models/three/predict", json=example)
print(answer.status_code, sorted(answer.json["predictions"][0]))
print(sorted(set(sys.argv[2].split(",")) & set(sys.modules)))
"""


def test_the_service_answers_where_training_is_not_installed(tmp_path):
    """In a process in which none of it can be imported, nor was before."""
    import small

    small.put(tmp_path, "three", 1, small.three())

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _BLOCKED, tmp_path, ",".join(HEAVY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("200 ['digits', 'risk', 'size', 'tags']\n[]\n", "")
