"""The candidates: loaded versions that get shares of a model's traffic, and why others do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.repository.aliases import STABLE
from service.repository.scan import TRAFFIC, Refused
from service.repository.substitutes import why_not

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.repository.catalog import Catalog, Key
    from service.repository.loader import Servable

_NO_STABLE = (
    f"{TRAFFIC}: expected an alias {STABLE!r}, which names the version that answers all other "
    f"requests, and there is none: triceps alias %s {STABLE} VERSION"
)


@dataclass(frozen=True)
class Candidates:
    """The candidates of all models and views."""

    canaries: Mapping[str, Servable] = field(default_factory=dict)
    """The version that answers a share of the requests, by the name of the model or view."""
    shadows: Mapping[str, Servable] = field(default_factory=dict)
    """The version that runs a share of the rows afterwards, by the name of the model or view."""
    reasons: Mapping[Key, str] = field(default_factory=dict)
    """Why a version that is named gets no share, by the name and "canary" or "shadow"."""
    refused: tuple[Refused, ...] = ()
    """The files of shares with such a version, or without effect."""

    def by_role(self) -> dict[str, Mapping[str, Servable]]:
        """Return the canaries and the shadows, by role."""
        return {"canary": self.canaries, "shadow": self.shadows}


def find(
    catalog: Catalog,
    served: Mapping[str, list[Servable]],
    serving: Mapping[str, Servable],
    owners: Mapping[str, str],
) -> Candidates:
    """Return the candidates among the loaded versions.

    Args:
        catalog: the versions of the models, and their shares.
        served: the loaded versions of each model and view.
        serving: the loaded version that answers for each model and view.
        owners: the model that each view belongs to.
    """
    refused = [
        Refused(name, None, _NO_STABLE % name)
        for name in catalog.traffic
        if name in catalog.scan.by_name and not catalog.is_shared(name)
    ]
    by_role: dict[str, dict[str, Servable]] = {"canary": {}, "shadow": {}}
    reasons: dict[Key, str] = {}
    shared = [name for name in catalog.traffic if catalog.is_shared(name)]
    of_views = [view for view, owner in owners.items() if owner in shared]
    for name in (*shared, *of_views):
        owner, stable = owners.get(name, name), serving.get(name)
        for role, version in catalog.traffic[owner].versions().items():
            servable = next((s for s in served.get(name, ()) if s.version == version), None)
            if stable is not None and version == stable.version:
                reasons[name, role] = f"version {version} is the one that {STABLE} names"
            elif servable is None:
                reasons[name, role] = why = _why_not_loaded(catalog, owner, version)
                if name == owner and (owner, version) not in catalog.tried:
                    refused.append(Refused(name, None, f"{TRAFFIC}, {role}: {why}"))
            elif stable is None:
                reasons[name, role] = f"the version that {STABLE} names is not loaded"
            elif role == "canary" and (unfit := why_not(stable.signature, servable.signature)):
                reasons[name, role] = why = f"version {version}: {unfit}"
                if name == owner:
                    refused.append(Refused(name, None, f"{TRAFFIC}, {role}: {why}"))
            else:
                by_role[role][name] = servable
    return Candidates(by_role["canary"], by_role["shadow"], reasons, tuple(refused))


def _why_not_loaded(catalog: Catalog, owner: str, version: str) -> str:
    """Return why a version is not among the loaded ones of a model or of a view of it."""
    key = owner, version
    if version not in catalog.scan.by_name.get(owner, {}):
        return f"version {version} does not exist"
    if key in catalog.models:
        return f"version {version} has no such view"
    broken = catalog.broken.get(key)
    if broken is not None:
        return f"version {version} is refused: {broken.reason}"
    return f"version {version} is not loaded yet"
