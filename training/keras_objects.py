"""Look-up, checking and creation of Keras objects by the names that a spec uses.

Every name is checked against the signatures of Keras' constructors before anything is created, so
that a wrong one costs no training.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from training import layers
from training.built import objection
from training.errors import SpecError
from training.quiet import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from training.spec import Spec

# A table with one capitalised name inside arguments stands for an object of that class:
# kernel_regularizer = { L2 = { l2 = 0.01 } }, layer = { LSTM = { units = 8 } }
_NAMESPACES = (
    *(keras.layers, keras.regularizers, keras.initializers, keras.constraints),
    keras.optimizers.schedules,
)


OUR_LAYERS = {kind.__name__: kind for kind in (layers.Log, layers.PiecewiseLinear)}


def check_words(spec: Spec) -> None:
    """Check every layer, argument, loss, metric and optimizer against those that Keras has.

    Raises:
        SpecError: Keras has no such thing; one line for each.
    """
    problems: list[str] = []
    for layer in spec.layers.values():
        if layer.share is None:
            _check_object(problems, f"layers.{layer.name}", layer.kind, layer.arguments)
    for head in spec.heads.values():
        at = f"heads.{head.name}"
        _check_object(problems, at, "Dense", head.arguments)
        for key, namespace in (("loss", keras.losses), ("metric", keras.metrics)):
            name = getattr(head, key)
            if name is not None:
                _check_word(problems, f"{at}.{key}", namespace, name)
    name = spec.fit.optimizer
    kind = _optimizer_class(name)
    if kind is None:
        tail = nearest(name, [*_optimizers(), *map(str.lower, _optimizers())])
        problems.append(f"fit.optimizer: Keras has no optimizer {name!r}{tail}")
    else:
        at = f"fit.optimizer.{kind.__name__}"
        _check_arguments(problems, at, kind, spec.fit.optimizer_arguments)
    raise_any(spec, problems)


def _check_word(problems: list[str], at: str, namespace: Any, name: str) -> None:
    """Note a loss, metric or activation unknown to Keras, which also has names such as mse."""
    try:
        namespace.get(name)
    except ValueError:
        names = [word for word in _public(namespace) if _is_known(namespace, word)]
        what = at.rpartition(".")[2]
        problems.append(f"{at}: Keras has no {what} {name!r}{nearest(name, names)}")
    except TypeError as error:
        problems.append(f"{at}: {name} cannot be had by its name alone: {error}")


def _is_known(namespace: Any, name: str) -> bool:
    """Return whether Keras has a thing by its name, as of some that it exports it has not."""
    try:
        namespace.get(name)
    except (TypeError, ValueError):
        return False
    return True


def _check_object(problems: list[str], at: str, kind: str, arguments: Mapping[str, Any]) -> None:
    layer = layer_class(kind)
    if layer is None:
        names = [name for name in _public(keras.layers) if _find(keras.layers, name)]
        names += OUR_LAYERS
        problems.append(f"{at}.{kind}: Keras has no such layer{nearest(kind, names)}")
    else:
        _check_arguments(problems, f"{at}.{kind}", layer, arguments)


def _check_arguments(
    problems: list[str], at: str, kind: type, arguments: Mapping[str, Any]
) -> None:
    names = _parameters(kind)
    for name, value in arguments.items():
        if name not in names:
            tail = nearest(name, names) or f"; it takes {', '.join(names)}"
            problems.append(f"{at}.{name}: {kind.__name__} takes no such argument{tail}")
        if name.endswith("activation") and isinstance(value, str):
            _check_word(problems, f"{at}.{name}", keras.activations, value)
        for inner, inner_arguments in _objects(value):
            inner_kind = _find_object(inner)
            if inner_kind is None:
                known = [word for namespace in _NAMESPACES for word in _public(namespace)]
                tail = nearest(inner, [word for word in known if _find_object(word)])
                problems.append(f"{at}.{name}.{inner}: Keras has no such thing{tail}")
            else:
                _check_arguments(problems, f"{at}.{name}.{inner}", inner_kind, inner_arguments)


def _parameters(kind: type) -> list[str]:
    """Return the names of a constructor's arguments, including those it passes to its parents."""
    names: dict[str, None] = {}
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = list(inspect.signature(vars(parent)["__init__"]).parameters.values())[1:]
        rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= dict.fromkeys(item.name for item in parameters if item.kind not in rest)
        if not any(item.kind is rest[0] for item in parameters):
            break
    names.pop("name", None)  # the name of a table is that of its layer
    return list(names)


def _objects(value: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict) and len(value) == 1:
        [(name, arguments)] = value.items()
        if name[:1].isupper() and isinstance(arguments, dict):
            yield name, arguments
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def value_of(value: Any) -> Any:
    """Return an argument, or all of them, as Keras takes it, creating the objects in it."""
    if isinstance(value, list):
        return [value_of(item) for item in value]
    if not isinstance(value, dict):
        return value
    values = {key: value_of(item) for key, item in value.items()}
    for name, _ in _objects(value):
        kind = _find_object(name)
        if kind is not None:
            return kind(**values[name])
    return values


def _find_object(name: str) -> type | None:
    return next((kind for space in _NAMESPACES if (kind := _find(space, name))), None)


def layer_class(name: str) -> type | None:
    """Return the class of a layer, Keras' or ours, by its exact name."""
    return OUR_LAYERS.get(name) or _find(keras.layers, name)


def _find(namespace: Any, name: str) -> type | None:
    """Return a class of Keras by its exact name, unless it is a base class or an input."""
    kind = getattr(namespace, name, None)
    if not inspect.isclass(kind) or name in ("InputLayer", "Layer", "Wrapper"):
        return None
    return kind if namespace is not keras.layers or issubclass(kind, keras.Layer) else None


def _public(namespace: Any) -> list[str]:
    return [name for name in vars(namespace) if not name.startswith("_")]


def _optimizers() -> list[str]:
    return [
        name
        for name in _public(keras.optimizers)
        if _find(keras.optimizers, name) and name not in ("Optimizer", "LossScaleOptimizer")
    ]


def _optimizer_class(name: str) -> type | None:
    names = [known for known in _optimizers() if known.lower() == name.lower()]
    return _find(keras.optimizers, names[0]) if names else None


def optimizer(spec: Spec) -> Any:
    """Create the optimizer of a spec, which `check_words` has checked, with its arguments."""
    kind: Any = _optimizer_class(spec.fit.optimizer)
    return call(spec, "fit.optimizer", lambda: kind(**value_of(spec.fit.optimizer_arguments)))


def call(spec: Spec, at: str, thing: Callable[..., Any], /, *values: Any, **arguments: Any) -> Any:
    """Call Keras with values of the spec; an exception becomes an error that names the key."""
    try:
        return thing(*values, **arguments)
    except Exception as error:  # Keras raises exceptions of any class for a wrong value
        text = f"{spec.path}: {at}: {objection(error)}"
        raise SpecError(text) from error


def raise_any(spec: Spec, problems: list[str]) -> None:
    """Raise a `SpecError` of one line for each problem, if there are any."""
    if problems:
        raise SpecError("\n".join(f"{spec.path}: {problem}" for problem in problems))
