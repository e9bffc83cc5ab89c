"""The declarations in the small files beside the versions.

They are aliases, settings, shares of traffic and the default model.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from service.errors import ModelRefused
from service.repository import aliases as files
from service.repository import default_model
from service.repository import traffic as traffic_files
from service.repository.loader import AGAIN_SECONDS, check_place
from service.repository.model_settings import CAREFUL, ModelSettings, ModelSettingsError
from service.repository.model_settings import read as read_settings_file
from service.repository.reasons import is_shortage
from service.repository.scan import Refused
from service.repository.traffic import Traffic, TrafficError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.repository.catalog import Catalog, Key
    from service.repository.loader import Loaded, Tried
    from service.repository.scan import Scan

    # A model, the error of one of its files, and a string that says what stays in force instead.
    _Damaged = tuple[str, Exception, str]


class Declared(NamedTuple):
    """What the files beside the versions declare."""

    aliases: Mapping[str, Mapping[str, str]]
    """The version that each alias names, by model and alias."""
    settings: Mapping[str, ModelSettings]
    """The settings of each model that has any, by model."""
    damaged: tuple[Refused, ...]
    """The files that cannot be read, are invalid or contradict each other."""
    default: str | None
    """The default model, unless the settings of the service name one."""
    again: float
    """The time to read them again if the machine was short of something, by the monotonic clock."""
    former: Mapping[str, Mapping[str, str]]
    """The version that each alias served before, by model and alias."""
    views: Mapping[str, frozenset[str]]
    """The views that each model had, by model, as far as is known."""
    replaced: frozenset[Key] = frozenset()
    """The versions that other workers may serve on (see `Catalog.replaced`)."""
    traffic: Mapping[str, Traffic] = {}
    """The shares of traffic of each model that has a file of them, by model."""


def is_shared(name: str, declared: Declared) -> bool:
    """Return whether a model has a file of shares, and a stable version to share with."""
    return name in declared.traffic and files.STABLE in declared.aliases.get(name, {})


def declared_in(catalog: Catalog) -> Declared:
    """Return what the files declared when a catalog was made."""
    return Declared(
        catalog.declared,
        catalog.settings,
        catalog.damaged,
        catalog.default,
        catalog.again,
        catalog.former,
        catalog.views,
        catalog.replaced,
        catalog.traffic,
    )


def declare(scan: Scan, before: Catalog) -> Declared:
    """Read the files beside the versions; for a damaged one, the previous content stays.

    A file that could not be read because the machine was short of something is read again later,
    even if it does not change.
    """
    damaged: list[_Damaged] = []
    aliases = _read_aliases(scan, before, damaged)
    settings = _read_settings(scan, before, damaged)
    traffic = _read_traffic(scan, before, damaged)
    is_short = any(is_shortage(error) for _, error, _ in damaged)
    return Declared(
        aliases,
        settings,
        (
            *(Refused(name, None, f"{error}{stays}") for name, error, stays in damaged),
            *default_model.contradictions(scan),
        ),
        default_model.choose(scan, before.default),
        time.monotonic() + AGAIN_SECONDS if is_short else math.inf,
        _former(before),
        known_views(scan, before),
        traffic=traffic,
    )


def known_views(scan: Scan, before: Catalog) -> dict[str, frozenset[str]]:
    """Return the views of each model that has any, as far as is known."""
    known: list[Tried | Loaded] = [*before.tried.values(), *before.models.values()]
    latest: dict[str, frozenset[str]] = {}
    for each in known:
        if each.found.key in before.selected:
            name = each.found.name
            latest[name] = latest.get(name, frozenset()).union(each.views)
    for name, _ in before.unanswered:
        # A version that other workers may serve on has its views still.
        latest[name] = latest.get(name, frozenset()) | before.views.get(name, frozenset())
    views = {**before.views, **latest}
    return {name: of for name, of in views.items() if of and name in scan.by_name}


def _former(before: Catalog) -> dict[str, dict[str, str]]:
    """Return the version that each alias serves, or served until it was moved to an unknown one."""
    known = before.models.keys() | before.tried.keys()
    former = {}
    for name, named in before.aliases.items():
        earlier = before.former.get(name, {})
        former[name] = {
            alias: version if (name, version) in known else earlier.get(alias, version)
            for alias, version in named.items()
        }
    return former


def _read_aliases(
    scan: Scan, before: Catalog, damaged: list[_Damaged]
) -> dict[str, Mapping[str, str]]:
    aliases: dict[str, Mapping[str, str]] = {}
    for entry in scan.aliases:
        name = entry.name
        try:
            if name not in scan.unreadable:
                check_place(entry.file, str(entry.file.parent.parent))
                aliases[name] = files.read(entry.file)
        except (files.AliasError, ModelRefused) as error:
            stay = ", ".join(sorted(before.declared.get(name, {}))) or "none"
            damaged.append((name, error, f". The previous aliases stay: {stay}"))
        aliases.setdefault(name, before.declared.get(name, {}))
    return aliases


def _read_settings(
    scan: Scan, before: Catalog, damaged: list[_Damaged]
) -> dict[str, ModelSettings]:
    settings: dict[str, ModelSettings] = {}
    for tuned in scan.tuned:
        name, former = tuned.name, before.settings.get(tuned.name)
        try:
            if name not in scan.unreadable:
                check_place(tuned.file, str(tuned.file.parent.parent))
                settings[name] = read_settings_file(tuned.file)
        except (ModelSettingsError, ModelRefused) as error:
            stays = "each request runs alone" if former is None else "the previous settings stay"
            damaged.append((name, error, f"; until it is fixed, {stays}"))
        settings.setdefault(name, CAREFUL if former is None else former)
    return settings


def _read_traffic(scan: Scan, before: Catalog, damaged: list[_Damaged]) -> dict[str, Traffic]:
    traffic: dict[str, Traffic] = {}
    for entry in scan.shared:
        name, former = entry.name, before.traffic.get(entry.name)
        try:
            if name not in scan.unreadable:
                check_place(entry.file, str(entry.file.parent.parent))
                traffic[name] = replace(traffic_files.read(entry.file), stamp=repr(entry.stamp))
        except (TrafficError, ModelRefused) as error:
            stays = "the alias stable answers all" if former is None else "the previous shares stay"
            damaged.append((name, error, f"; until it is fixed, {stays}"))
        # Whatever the file says, the model has one, so no new version serves by itself.
        traffic.setdefault(name, Traffic() if former is None else former)
    return traffic
