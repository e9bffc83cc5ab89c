"""The model repository at one moment: its versions, and those of them that answer.

A repository object never changes; the `reloader` replaces it by another.  So all decisions about a
request that use one object are consistent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import NotFound, NotReady, nearest
from service.repository.candidates import Candidates
from service.repository.catalog import EMPTY, Catalog
from service.repository.publish import DEFAULT
from service.repository.scan import UNLOADED, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.errors import RequestError
    from service.repository.loader import Servable
    from service.repository.scan import Version
    from service.repository.traffic import Traffic

# The models that a message names.
MOST_LISTED = 50
# The most names that an unknown one is compared with.
MOST_COMPARED = 200


@dataclass(frozen=True)
class Repository:
    """The models of a repository: their loaded versions by name, oldest first, and the others."""

    served: Mapping[str, Sequence[Servable]]
    refused: Sequence[Refused]
    default: str | None
    serving: Mapping[str, Servable] = field(default_factory=dict)
    """The versions in `answering` that are loaded, by the name of the model or view."""
    aliases: Mapping[str, Mapping[str, Servable]] = field(default_factory=dict)
    """The version that answers for each alias, by name and alias, if it is loaded."""
    policy: str = "latest"
    catalog: Catalog = EMPTY
    owners: Mapping[str, str] = field(default_factory=dict)
    """The model that each view belongs to, by view."""
    is_default_kept: bool = False
    """True if the default model is the default only because it was before the last changes."""
    answering: Mapping[str, str] = field(default_factory=dict)
    """The version of each model or view that answers a request without a version, by name; it may
    have to be loaded first."""
    candidates: Candidates = field(default_factory=Candidates)
    """The versions that get shares of the traffic of models and views."""

    def find(
        self, name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Servable:
        """Return the servable that answers a request: the serving version, or the one it names.

        It has to be loaded (see `on_demand`).

        Args:
            name: the name of the model or view; by default, the default model.
            version: the version, spelled as its folder is.
            alias: an alias, in place of a version.

        Raises:
            NotFound: there is no such model, version or alias.
            NotReady: it exists, and cannot serve.
        """
        if name is None:
            name = self._default_name()
        servable = self.loaded(name, version, alias)
        if servable is None:
            raise self._why_not(name, version, alias)
        return servable

    def loaded(self, name: str | None, version: str | None, alias: str | None) -> Servable | None:
        """Return the servable that answers a request, as `find` does; `None` if none is loaded."""
        name = self.default or "" if name is None else name
        if version is not None:
            return next((s for s in self.served.get(name, ()) if s.version == version), None)
        if alias is not None:
            return self.aliases.get(name, {}).get(alias)
        return self.serving.get(name)

    def on_demand(
        self, name: str | None, version: str | None = None, alias: str | None = None
    ) -> Version | None:
        """Return the version that has to be loaded to answer a request.

        Args:
            name: the name of the model or view; by default, the default model.
            version: a version.
            alias: an alias, in place of a version.

        Returns:
            The version; `None` if it is loaded, cannot serve or does not exist.
        """
        name = self.default or "" if name is None else name
        owner, _ = self.key(name, "")
        if owner in self.catalog.scan.unloaded:
            return None
        versions = self.catalog.scan.by_name.get(owner, {})
        if alias is not None:
            version = self.catalog.aliases.get(owner, {}).get(alias)
        elif version is None:
            # If none answers, the newest that would, but for what the machine was short of.
            short = self.catalog.selected & self.catalog.broken.keys()
            newest = next((v for v in reversed(versions) if (owner, v) in short), None)
            version = self.answering.get(name, newest)
        found = versions.get(version or "")
        if found is None or found.key in self.catalog.models:
            return None
        broken = self.catalog.broken.get(found.key)
        # The machine may have by now the memory that it was short of.
        return found if broken is None or broken.is_due() else None

    def key(self, name: str | None, version: str) -> tuple[str, str]:
        """Return a version's key in the catalog: the model, or the view's model, and `version`."""
        name = self.default or "" if name is None else name
        return self.owners.get(name, name), version

    def traffic(self, name: str) -> Traffic | None:
        """Return the shares of a model's or view's traffic, in force or not; `None` without any."""
        owner, _ = self.key(name, "")
        return self.catalog.traffic.get(owner) if self.catalog.is_shared(owner) else None

    def states(self, name: str) -> dict[str, str]:
        """Return the versions of a model or view that are not refused, each with its state.

        The state is "loaded", "on demand" or, if the model is out of service, "unloaded".
        """
        if name in self.catalog.scan.unloaded:
            return dict.fromkeys(self.catalog.scan.by_name.get(name, ()), "unloaded")
        loaded = {servable.version for servable in self.served.get(name, ())}
        states = {}
        for found in self.catalog.scan.by_name.get(self.owners.get(name, name), {}).values():
            if found.version in loaded:
                states[found.version] = "loaded"
            # The views of a file are known only once it has been tried or loaded.  So such a
            # version without this view does not have it, and any other may.
            elif found.key not in self.catalog.models and found.key not in self.catalog.broken:
                tried = self.catalog.tried.get(found.key)
                if tried is None or name == found.name or name in tried.views:
                    states[found.version] = "on demand"
        return states

    def versions_of_aliases(self, name: str) -> dict[str, str]:
        """Return the aliases of a model or view, each with the version that answers for it."""
        owner, _ = self.key(name, "")
        states = self.states(name)
        aliases = self.catalog.aliases.get(owner, {})
        return {alias: version for alias, version in aliases.items() if version in states}

    def names(self) -> list[str]:
        """Return the names of models and views with a version that is not refused, sorted."""
        known = {*self.catalog.scan.by_name, *self.owners}
        return sorted({*self.served, *filter(self.states, known)})

    def available(self) -> list[str]:
        """Return the names of models and views that are not out of service, sorted."""
        return [name for name in self.names() if name not in self.catalog.scan.unloaded]

    def reason_not_ready(self) -> str | None:
        """Return the reason why no model serves; `None` if one does."""
        if self.answering:
            return None
        for name in self.names():
            if name in self.catalog.scan.unloaded:
                return f"no model is usable: {name}: {_why_unloaded(name)}"
        if self.refused:
            first = self.refused[0]
            where = (
                first.name if first.version is None else f"{first.name}, version {first.version}"
            )
            return f"no model is usable: {where}: {first.reason}"
        return "the model repository is empty: train or publish a model into it"

    def _default_name(self) -> str:
        if self.default is None:
            if (reason := self.reason_not_ready()) is not None:
                raise NotReady(reason)
            message = (
                "no model was named, and none is the default: ask /models/<name>/predict, set "
                f"TRICEPS_DEFAULT_MODEL, or mark a model by an empty file <name>/{DEFAULT}. "
                f"Available: {_listed(self.available())}"
            )
            raise NotFound(message)
        if self.default not in known_names(self):
            # 503 and not 404: the request is right, and the model may still be published.
            message = (
                f"the default model {self.default!r} (TRICEPS_DEFAULT_MODEL) is not there. "
                f"Available: {_listed(self.available())}"
            )
            raise NotReady(self.reason_not_ready() or message)
        return self.default

    def _why_not(self, name: str, version: str | None, alias: str | None) -> RequestError:
        if name not in known_names(self):
            return self._why_unknown(name)
        if name in self.catalog.scan.unloaded and version in (None, *self.states(name)):
            return NotReady(f"model {name!r}: {_why_unloaded(name)}")
        if name in self.catalog.unloaded_views - self.owners.keys():
            # Without the model's name, as below.
            message = "it is a view of a model that is unloaded, and comes back with that"
            return NotReady(f"model {name!r}: {message}")
        if self.on_demand(name, version, alias) is not None:
            # Between its load and this, others have needed the memory.
            return NotReady(f"model {name!r}: it is not loaded any more; ask again")
        if alias is not None:
            return self._why_no_alias(name, alias)
        return self._why_refused(name, version) or self._why_no_version(name, version)

    def _why_no_version(self, name: str, version: str | None) -> RequestError:
        available = ", ".join(self.states(name)) or "none"
        if version is None and self.owners.get(name, name) not in self.answering:
            return NotReady(
                f"model {name!r}: it is a view of a model of which no version can answer now; ask "
                "again"
            )
        if version is None:
            # Without the model's name: a token for the view need not permit to see the model.
            message = (
                f"model {name!r}: it is a view of a model, and the version of that which serves "
                f"has no such view. Available by version: {available}"
            )
            return NotReady(message)
        if self.key(name, version) in self.catalog.selected & self.catalog.broken.keys():
            return NotReady(
                f"model {name!r}, version {version!r}: it is a view of a model, and that version "
                f"of it cannot be loaded now. Available by version: {available}"
            )
        return NotFound(f"model {name!r} has no version {version!r}. Available: {available}")

    def _why_refused(self, name: str, version: str | None) -> RequestError | None:
        refused = [entry for entry in self.refused if entry.name == name]
        if version is None:
            # A reason that concerns the whole model comes first.
            refused.sort(key=lambda entry: entry.version is not None)
        for entry in refused:
            if version in (None, entry.version):
                which = "" if entry.version is None else f", version {entry.version}"
                return NotReady(f"model {name!r}{which}: refused, {entry.reason}")
        return None

    def _why_unknown(self, name: str) -> RequestError:
        if unknown := self.catalog.unknown:
            return NotReady(
                f"model {name!r}: there is none of that name so far, and {len(unknown)} files that "
                "may have a view of that name are still to be read"
            )
        available = self.available()
        # To compare a name with a thousand others takes milliseconds, for whoever asks.
        close = nearest(name, available) if len(available) <= MOST_COMPARED else ""
        listed = _listed(available) or "none yet"
        message = f"model {name!r}: there is none of that name{close}. Available: {listed}"
        return NotFound(message)

    def _why_no_alias(self, name: str, alias: str) -> RequestError:
        owner, _ = self.key(name, "")
        if (amiss := self.catalog.amiss.get((owner, alias))) is not None:
            return NotReady(f"model {name!r}: {amiss}")
        version = self.catalog.aliases.get(owner, {}).get(alias)
        if version is not None:
            # It has failed to load, and is waited for, since other workers may serve it.
            return self._why_refused(name, version) or self._why_no_version(name, version)
        named = self.versions_of_aliases(name)
        available = ", ".join(sorted(named)) or "none"
        message = f"model {name!r} has no alias {alias!r}{nearest(alias, named)}"
        return NotFound(f"{message}. Available: {available}")


NOTHING = Repository({}, (), None)


def _listed(names: Sequence[str]) -> str:
    """Return the names of models for a message; of very many, the first alone."""
    more = len(names) - MOST_LISTED
    rest = f" and {more} more, which /models lists" if more > 0 else ""
    return ", ".join(names[:MOST_LISTED]) + rest


def _why_unloaded(name: str) -> str:
    return (
        f"it is unloaded. The file {name}/{UNLOADED} of the repository says so: "
        f"POST /v2/repository/models/{name}/load, or remove the file"
    )


def known_names(repository: Repository) -> set[str]:
    """Return the names of all models and views, including those that cannot serve."""
    return {
        *repository.served,
        *repository.owners,
        *repository.catalog.unloaded_views,
        *repository.catalog.scan.by_name,
        *(entry.name for entry in repository.refused),
    }
