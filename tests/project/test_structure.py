"""The layers of the design, checked by reading every import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import small

ROOT = Path(__file__).parents[2]
HEAVY = {"training", "tensorflow", "keras", "tf2onnx", "pandas"}
WEB = {"asyncio", "flask", "httptools", "socket", "uvloop", "werkzeug"}
# The layers of the service, from the lowest; a module imports its own layer and those below.
LAYERS = (
    {
        *("errors", "kinds", "metadata", "names", "reference", "run"),
        "signature",
        "signature_checks",
    },
    {"host"},
    {"wire"},
    {"http"},
    {"settings"},
    {"inference"},
    {"repository"},
    {"stores"},
    {"observability"},
    {"insight"},
    {"canary", "exchange"},
    {"prediction"},
    {"api", "app", "loaded"},
    {"server"},
    {"commands"},
)
# Training imports these: the contract, and the code that loads and publishes a model.
OFFERED = {
    *("errors", "kinds", "metadata", "names", "reference", "settings", "signature"),
    *("host.memory", "inference.arrays", "inference.model", "insight.scores"),
    *("insight.evaluation.judged", "insight.evaluation.losses"),
    *(f"insight.drift.{part}" for part in ("counting", "quantities", "record", "statistics")),
    *(f"insight.report.{part}" for part in ("chart", "document", "elements", "evaluation")),
    *(f"insight.report.{drawing}" for drawing in ("bars", "compared", "network", "picture")),
    "wire.cells",  # a table is trained on and scored by one reader of CSV
    *("repository.publish", "server.listening"),  # `triceps up` looks whether its port is free
    "host.progress",  # long work has the same line at a terminal
}
PACKAGES = {
    *("", "host", "inference", "insight", "insight.drift", "insight.evaluation"),
    *("insight.report", "repository"),
    *("server", "service", "wire"),
}


def imports(path):
    """Yield the full names of all imports of a file, also in functions and type-checking blocks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules(package):
    """Return the files of a package, by dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def needs(name, path):
    """Return the modules of the service that a module imports, without the prefix."""
    ours = modules("service")
    return {
        imported.removeprefix("service.")
        for imported in imports(path)
        if imported in ours and imported not in ("service", name)
    }


def test_the_service_imports_nothing_of_training():
    """No import is conditional either, since the service runs without these packages."""
    wrong = {
        f"{name}: {imported}"
        for name, path in modules("service").items()
        for imported in imports(path)
        if imported.partition(".")[0] in HEAVY
    }

    assert wrong == set()


def test_training_imports_the_contract_alone():
    """Training needs the signature, the model, scores, publishing, memory, errors and settings."""
    used = {imported for path in modules("training").values() for imported in imports(path)}
    ours = modules("service")

    assert {name.removeprefix("service.") for name in used if name in ours} <= OFFERED | PACKAGES


def test_the_service_is_built_in_layers():
    """A module imports its own layer and those below, also in type-checking blocks."""
    floors = {top: floor for floor, tops in enumerate(LAYERS) for top in tops}
    imported = {
        name.removeprefix("service."): needs(name, path)
        for name, path in modules("service").items()
        if name != "service"
    }
    assert {name.partition(".")[0] for name in imported} == set(floors)

    wrong = {
        f"{name} imports {other}"
        for name, others in imported.items()
        for other in others
        if floors[other.partition(".")[0]] > floors[name.partition(".")[0]]
    }

    assert wrong == set()


def test_scores_need_numpy_alone():
    """Training and commands compute them, so they know neither a model nor a request."""
    path = modules("service")["service.insight.scores"]

    assert {name.partition(".")[0] for name in imports(path)} <= {
        *("__future__", "collections", "dataclasses", "numpy", "service", "typing")
    }
    assert needs("service.insight.scores", path) == {"kinds"}


def test_the_comparison_needs_numpy_alone():
    """A command and a service compare by it, so it knows heads, and neither models nor requests."""
    path = modules("service")["service.insight.comparison"]

    assert {name.partition(".")[0] for name in imports(path)} <= {
        *("__future__", "dataclasses", "numpy", "service", "typing")
    }
    assert needs("service.insight.comparison", path) == {"signature"}


def test_figures_need_numpy_alone():
    """Training and commands compute them of arrays, as the scores."""
    for name, path in modules("service").items():
        if name.startswith("service.insight.evaluation"):
            assert {imported.partition(".")[0] for imported in imports(path)} <= {
                *("__future__", "collections", "dataclasses", "math", "numpy", "service", "typing")
            }, name
            assert all(need.startswith("insight") for need in needs(name, path)), name


def test_drift_needs_numpy_alone():
    """Training records the reference that the service counts by, and that a command compares."""
    allowed = {"insight", "kinds", "reference", "signature"}
    for name, path in modules("service").items():
        if name.startswith("service.insight.drift"):
            assert {imported.partition(".")[0] for imported in imports(path)} <= {
                *("__future__", "collections", "dataclasses", "functools", "math", "numpy"),
                *("service", "statistics", "typing"),
            }, name
            assert {need.partition(".")[0] for need in needs(name, path)} <= allowed, name


def test_a_pipeline_knows_neither_flask_nor_sockets():
    """The servers adapt to the pipeline."""
    known = set(imports(modules("service")["service.prediction"]))

    assert {name.partition(".")[0] for name in known} & WEB == set()


def test_the_wire_is_free_of_the_web_and_of_the_model():
    """A dialect converts bytes and arrays, so that it can be read and tested by itself."""
    for name, path in modules("service").items():
        if name.startswith("service.wire"):
            tops = {imported.partition(".")[0] for imported in imports(path)}
            assert tops & {"flask", "werkzeug", "uvloop", "onnxruntime", "onnx"} == set(), name


# Each dialect is a folder.
DIALECTS = ("native", "oip", "tfserving", "mlflow")
# The modules that dialects share, from the lowest; each imports those below it.
SHARED = [
    {"messages", "paths", "pieces", "scalars"},
    {"body", "labels", "written"},
    {"cells", "column_names", "raw", "rows", "tensors", "unseen"},
    {
        *("columns", "explanations", "protobuf", "quick", "shapes"),
        *("table_columns", "tensor_rows"),
    },
    {"blocks", "values", "varints"},
    {"numbers", "packed"},
    {"dialect"},
    {"grpc_status", "limits"},
]


def wire(*tops):
    """Return the modules of `service.wire` that are files or folders of these names."""
    return {
        name: path
        for name, path in modules("service").items()
        if name.startswith("service.wire.") and name.split(".")[2] in tops
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_dialect_knows_another(dialect):
    """A dialect imports its own parts and shared modules, and so can be removed."""
    own = wire(dialect)
    allowed = {name.removeprefix("service.") for name in (*own, *wire(*set().union(*SHARED)))}

    for name, path in own.items():
        assert needs(name, path) <= {*allowed, "wire", "signature", "errors", "run"}, name


def test_shared_modules_of_the_wire_know_no_dialect():
    """Shared modules import only those below them, and the list of them is complete."""
    below = {"signature", "errors", "run"}
    for floor in SHARED:
        for name, path in wire(*floor).items():
            assert needs(name, path) <= {*below, "wire"}, name
        below |= {f"wire.{name}" for name in floor}

    known = wire(*set().union(*SHARED, DIALECTS))
    assert {name for name in modules("service") if name.startswith("service.wire.")} == set(known)


def test_tests_mirror_the_packages():
    """A folder of tests has the name of a package or module; `project/` tests the rest."""
    names = ("attack", "benchmarks", "clients", "newcomer", "operator", "project")
    others = {f"tests/{name}" for name in names}
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}

    for folder in folders - {Path(other) for other in others}:
        tested = ROOT / folder.relative_to("tests")
        assert tested.is_dir() or tested.with_suffix(".py").is_file(), folder


def test_no_test_file_imports_another():
    """Shared code of tests is in `tests/harness/`, or in a file beside them that is not a test."""
    wrong = {
        f"{path.relative_to(ROOT)}: {imported}"
        for path in (ROOT / "tests").rglob("*.py")
        for imported in imports(path)
        if any(part.startswith("test_") for part in imported.split("."))
    }

    assert wrong == set()


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
    """The service runs in a process that cannot import the training packages."""
    small.put(tmp_path, "three", 1, small.three())

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _BLOCKED, tmp_path, ",".join(HEAVY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("200 ['digits', 'risk', 'size', 'tags']\n[]\n", "")


# A longer file is split, or its docstring says why it is one idea.
LONG = 300


def test_a_long_file_says_why_it_is_one_idea():
    """A long file without a reason in its docstring has to be split."""
    unsaid = set()
    for name, path in {**modules("service"), **modules("training")}.items():
        text = path.read_text(encoding="utf-8")
        docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        if text.count("\n") > LONG and "one idea" not in docstring:
            unsaid.add(name)

    assert unsaid == set()
