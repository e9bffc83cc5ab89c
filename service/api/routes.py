"""The paths that predict, and the dialect of each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from service.wire import mlflow, native, oip, tfserving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.settings import Settings
    from service.wire.dialect import Dialect

# The dialects of TensorFlow Serving, and of KServe, by the verb at the end of a path.
VERBS = {
    "predict": tfserving.PREDICT,
    "classify": tfserving.CLASSIFY,
    "regress": tfserving.REGRESS,
    "explain": tfserving.EXPLAIN,
}
# A rule without a name is for the default model; a rule without a version, for the version that
# serves.
_PREDICTIONS = {
    "/predict": native.DIALECT,
    "/models/<name>/predict": native.DIALECT,
    "/models/<name>/versions/<version>/predict": native.DIALECT,
    "/models/<name>/aliases/<alias>/predict": native.DIALECT,
    "/v2/models/<name>/infer": oip.DIALECT,
    "/v2/models/<name>/versions/<version>/infer": oip.DIALECT,
    **{
        f"/v1/models/<name>{which}:{verb}": dialect
        for verb, dialect in VERBS.items()
        for which in ("", "/versions/<version>", "/labels/<alias>")
    },
    "/invocations": mlflow.DIALECT,
}

# The dialect in which an unknown path is refused, by the path's first segment.
_SPOKEN = {
    "v1": tfserving.PREDICT,
    "v2": oip.DIALECT,
    **dict.fromkeys(("invocations", "ping", "health", "version"), mlflow.DIALECT),
}


def predictions(settings: Settings) -> dict[str, Dialect]:
    """Return the dialects of the paths that predict, by rule."""
    if not settings.predict_route:
        return _PREDICTIONS
    return {**_PREDICTIONS, settings.predict_route: tfserving.PREDICT}


def dialect_of(path: str, rules: Mapping[str, Dialect]) -> Dialect:
    """Return the dialect of a path, whether or not the path exists."""
    path = f"/{path.strip('/')}"
    return (
        rules.get(path)
        or rules.get(f"{path}/")
        or _SPOKEN.get(path.split("/", 2)[1], native.DIALECT)
    )


def which(names: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Return the model, version and alias that a path names, as `Repository.find` takes them."""
    return names.get("name"), names.get("version"), names.get("alias")


def path_of(rule: str, names: Mapping[str, str]) -> bytes:
    """Return the path of a rule, spelled as most requests do.

    Args:
        rule: the rule of a path that predicts.
        names: the values of the rule's variables.
    """
    return re.sub("<(.*?)>", lambda match: names[match[1]], rule).encode()
