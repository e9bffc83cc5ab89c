"""The catalog: the versions that can answer, those of them that are loaded, and why others are not.

A version is *selected* by the policy, by an alias or by a share of traffic.  A selected version is
loaded, or it has been tried and is loaded when a request needs it, or nothing is known of it yet.
A loaded version that is not selected is *kept*, because a client has requested it by number or
because it has just been superseded.  The `reloader` unloads a kept version once there are no more
requests for it, and any version if the memory is needed for others.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from service.repository.aliases import STABLE
from service.repository.model_settings import DEFAULTS, ModelSettings
from service.repository.scan import Refused, Scan, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.inference.execution import Execution
    from service.repository.loader import Broken, Loaded, Tried
    from service.repository.traffic import Traffic

# The policy under which the alias `stable` names the version that serves.
PINNED = "pinned"
# The name of a model, and a version or an alias of it.
Key = tuple[str, str]


@dataclass(frozen=True)
class Catalog:
    """A scan of the repository, and what is known of its versions."""

    scan: Scan
    models: Mapping[Key, Loaded]
    """Loaded versions, by model and version.  If the file of one has become unusable since, the
    version is in `broken`, too."""
    broken: Mapping[Key, Broken]
    tried: Mapping[Key, Tried] = field(default_factory=dict)
    """Selected versions that can serve, and are not loaded."""
    selected: frozenset[Key] = frozenset()
    """Versions that the policy, an alias or a share selects; they can serve, as far as is known."""
    views: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The views that each model had, by model; a version of which nothing is known may have them.
    """
    first: frozenset[str] = frozenset()
    """Models of whose versions everything is known: they were loaded, or at least tried."""
    held: frozenset[str] = frozenset()
    """Models that stay loaded: the default model, those with keep = true or with shares."""
    declared: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The version that each alias names in its file, by model and alias."""
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The version that each alias serves, by model and alias.  If an alias names a version that
    cannot serve, it still serves the version that it named before."""
    former: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The version that each alias served before this catalog, by model and alias."""
    amiss: Mapping[Key, str] = field(default_factory=dict)
    """The reason why an alias does not serve the version that it names, by model and alias."""
    damaged: tuple[Refused, ...] = ()
    """Files of aliases, settings or shares that cannot be read."""
    replaced: frozenset[Key] = frozenset()
    """Versions that other workers may serve on, although their files or settings were replaced.
    One that cannot be loaded stays selected, so that no older version answers in its place."""
    again: float = math.inf
    """The time to read these files again if the machine is at fault, by the monotonic clock."""
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
    """The settings of each model that has any, by model."""

    default: str | None = None
    """The default model, unless the settings of the service name one."""
    provider: str = ""
    """The execution provider of the models whose settings name none; empty for that of the CPU."""
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    """The shares of traffic in the file of each model that has one, by model."""

    @cached_property
    def kept(self) -> frozenset[Key]:
        """Loaded versions that neither the policy, an alias nor a share selects."""
        return frozenset(self.models.keys() - self.selected)

    @cached_property
    def outliving(self) -> frozenset[Key]:
        """Loaded versions whose files, or settings, cannot serve any more."""
        return frozenset(self.models.keys() & self.broken.keys())

    @cached_property
    def unanswered(self) -> frozenset[Key]:
        """Versions that are selected because other workers may serve them, and cannot be loaded."""
        unable = self.selected & self.broken.keys() - self.models.keys()
        return frozenset(key for key in unable if not self.broken[key].is_short)

    @cached_property
    def unloaded_views(self) -> frozenset[str]:
        """The views, as far as they are known, of models that are out of service."""
        return frozenset(view for name in self.scan.unloaded for view in self.views.get(name, ()))

    def is_shared(self, name: str) -> bool:
        """Return whether a model has a file of shares, and a stable version to share with."""
        return name in self.traffic and STABLE in self.declared.get(name, {})

    def policy(self, name: str, policy: str) -> str:
        """Return the policy that a model is served by, where `policy` is that of the service."""
        return PINNED if self.is_shared(name) else policy

    def can_serve(self, key: Key) -> bool:
        """Return whether a version can answer, as far as is known."""
        return key in self.selected or key in self.models

    def execution(self, name: str) -> Execution:
        """Return the settings that the sessions of a model are made with."""
        return self.settings.get(name, DEFAULTS).execution(self.provider)

    def is_due(self) -> bool:
        """Return whether to try again what failed because the machine was short of something."""
        again = min([self.again, *(broken.again for broken in self.broken.values())])
        return time.monotonic() >= again

    @cached_property
    def unknown(self) -> list[Version]:
        """The selected versions of which nothing is known yet, in the scan's order."""
        if len(self.first) == len(self.scan.by_name):
            return []
        unknown = self.selected - self.models.keys() - self.tried.keys() - self.broken.keys()
        return [found for found in self.scan.versions if found.key in unknown]


EMPTY = Catalog(Scan((), (), ()), {}, {})
