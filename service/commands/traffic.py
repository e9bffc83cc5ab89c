"""`triceps traffic`: shares of a model's traffic for a canary and a shadow.

A running service notices a change within a second.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from service import settings as all_settings
from service.commands import options
from service.commands.alias import open_folder, prove
from service.errors import TricepsError
from service.repository.aliases import STABLE
from service.repository.publish import VERSION, versions
from service.repository.scan import TRAFFIC
from service.repository.substitutes import why_not
from service.repository.traffic import (
    MOST_SLOWER,
    Canary,
    Shadow,
    Traffic,
    locked_with_aliases,
    read_if_there,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# In place of a version: none.
NONE = "off"


class CannotShareError(TricepsError):
    """The traffic cannot be shared: there is no stable version, or the candidate is no other."""


class Percentage(all_settings.Number):
    """A share, as 5% or 0.05."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the share as a number up to 1."""
        text = str(value)
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
            return super().convert(number, param, ctx)
        except (ValueError, click.BadParameter):
            least = "from" if self.min_open is False else "above"
            self.fail(f"expected a share like 5% or 0.05, {least} 0 and up to 1, received {text!r}")


class Named(NamedTuple):
    """A version, and the share that is written behind it; without a version, nothing gets one."""

    version: str | None
    share: float | None


class _Candidate(click.ParamType[Named]):
    """A version that may have its share behind it, as 4=5%."""

    name = "version"

    def convert(self, value: Any, param: Any, ctx: Any) -> Named:
        """Return the version and the share."""
        version, equals, share = str(value).partition("=")
        if value == NONE:
            return Named(None, None)
        if not VERSION.fullmatch(version):
            expected = f'a version like 4, one with its share like 4=5%, or "{NONE}"'
            self.fail(f"expected {expected}, received {value!r}", param, ctx)
        return Named(version, SHARE.convert(share, param, ctx) if equals else None)


SHARE = Percentage(min=0, max=1, min_open=True)
_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps traffic triceps --canary 4 --share 5%\n"
    "  triceps traffic triceps --canary 4=20% --shadow 5=10%\n"
    "  triceps traffic triceps --canary off\n"
    "  triceps traffic triceps\n"
)


@click.command(short_help="Share traffic: canary, shadow.", epilog=_EXAMPLE)
@options.model_name
@click.option("--canary", type=_Candidate(), help="The version that answers a share of requests.")
@click.option(
    "--shadow", type=_Candidate(), help="The version that is compared on a share of rows."
)
@click.option(
    "--share",
    type=SHARE,
    help="The share of the version, as 5%, unless it is written behind it (4=5%).",
)
@click.option(
    "--fail",
    type=Percentage(min=0, max=1),
    help="How many more requests than of the stable version may fail [1%].",
)
@click.option(
    "--slower",
    type=all_settings.Number(min=1, max=MOST_SLOWER),
    help="How many times as long as the stable version the canary may take [2].",
)
@click.option("--off", is_flag=True, help="End all shares: the stable version answers all.")
@options.as_json
@options.models
def traffic(  # noqa: PLR0913, PLR0917  (click passes each option by its name)
    model: str,
    canary: Named | None,
    shadow: Named | None,
    share: float | None,
    fail: float | None,
    slower: float | None,
    models: Path | None,
    *,
    off: bool,
    as_json: bool,
) -> None:
    """Have other versions than the stable one get shares of the traffic of MODEL.

    The alias stable names the version that answers all other requests, whatever the policy of the
    service is.  The canary answers its share.  It is asked no more once it fails more often, or
    takes longer, than its bounds allow.  The shadow runs rows that have been answered, and is
    compared.  Without options, print the shares.
    """
    repository = all_settings.load(models=models).models
    folder = open_folder(repository, model)
    bounds = {"fail": fail, "slower": slower}
    candidates = {"canary": canary, "shadow": shadow}
    is_change = off or canary is not None or shadow is not None
    _check_options(candidates, share, bounds, off=off)
    if not is_change:
        _print(model, read_if_there(folder), as_json=as_json)
        return
    with locked_with_aliases(folder) as (aliases, before):
        was = before or Traffic()
        after = Traffic() if off else _changed(was, candidates, share, bounds)
        if not off:
            _check(folder, aliases.get(STABLE), after)
        write(folder, after)
    if as_json:
        _print(model, after, as_json=True)
    else:
        for role in ("canary", "shadow"):
            former, now = (_describe(getattr(part, role)) for part in (was, after))
            if former != now or candidates[role] is not None:
                click.echo(f"{model}, {role}: {former} → {now}")
    click.echo(f"note: {_effect(folder, aliases.get(STABLE), after)}", err=True)


def _check_options(
    candidates: Mapping[str, Named | None],
    share: float | None,
    bounds: Mapping[str, float | None],
    *,
    off: bool,
) -> None:
    """Check that the options fit together.

    Raises:
        click.UsageError: they do not.
    """
    named = {role: entry for role, entry in candidates.items() if entry is not None}
    if off and (named or share is not None or any(b is not None for b in bounds.values())):
        raise click.UsageError("expected --off alone; --canary off ends the share of the canary")
    there = {role: entry for role, entry in named.items() if entry.version is not None}
    without = [role for role, entry in there.items() if entry.share is None]
    if share is not None and not without:
        message = "expected --share beside --canary VERSION or --shadow VERSION without a share"
        raise click.UsageError(message)
    if share is None and without:
        version = there[without[0]].version
        role = f"--{without[0]} {version}"
        raise click.UsageError(f"expected a share: {role}=5%, or {role} --share 5%")
    for bound, value in bounds.items():
        if value is not None and "canary" not in there:
            raise click.UsageError(f"expected --{bound} beside --canary VERSION, whose bound it is")


def _changed(
    was: Traffic,
    candidates: Mapping[str, Named | None],
    share: float | None,
    bounds: Mapping[str, float | None],
) -> Traffic:
    """Return the shares with the changes that the options say; what they do not name stays."""
    canary, shadow = was.canary, was.shadow
    if (named := candidates["canary"]) is not None:
        # The same version with another share keeps its bounds.
        kept = canary if canary is not None and canary.version == named.version else None
        own: dict[str, Any] = {} if kept is None else {"fail": kept.fail, "slower": kept.slower}
        own |= {bound: value for bound, value in bounds.items() if value is not None}
        part = _part(named, share)
        canary = None if part is None else replace(Canary(*part), **own)
    if (named := candidates["shadow"]) is not None:
        part = _part(named, share)
        shadow = None if part is None else Shadow(*part)
    return Traffic(canary, shadow)


def _part(named: Named, share: float | None) -> tuple[str, float] | None:
    """Return the version and the share that an option names; `None` for none."""
    own = share if named.share is None else named.share
    return None if named.version is None or own is None else (named.version, own)


def _check(folder: Path, stable: str | None, traffic: Traffic) -> None:
    """Check that the versions can get their shares.

    Raises:
        CannotAliasError: one does not exist, or cannot serve.
        CannotShareError: there is no stable version, or a candidate cannot stand in for it.
    """
    model, named = folder.name, traffic.versions()
    if stable is None:
        others = [str(number) for number in versions(folder) if str(number) not in named.values()]
        meant = others[-1] if others else "VERSION"
        raise CannotShareError(
            f"{model} has no alias {STABLE!r}, which names the version that answers all other "
            f"requests: triceps alias {model} {STABLE} {meant}"
        )
    for role, version in named.items():
        if version == stable:
            raise CannotShareError(
                f"{model}, {role}: expected another version than {stable}, which {STABLE} names "
                f"and which answers all other requests; --{role} {NONE} ends its share"
            )
    if not named:
        return
    signature = prove(folder, stable)
    for role, version in named.items():
        candidate = prove(folder, version)
        reason = why_not(signature, candidate) if role == "canary" else None
        if reason is not None:
            raise CannotShareError(
                f"{model}, canary: version {version} cannot answer requests for version {stable}, "
                f"which {STABLE} names: {reason}"
            )


def _print(model: str, traffic: Traffic | None, *, as_json: bool) -> None:
    """Print the shares of a model."""
    if as_json:
        facts = {"model": model, "traffic": None if traffic is None else traffic.as_json()}
        options.print_json(facts)
    elif traffic is None:
        click.echo(f"{model} has no shares: it is served by the policy of the service", err=True)
    elif not traffic.versions():
        click.echo(f"{model} has no shares: the alias {STABLE} answers all requests", err=True)
    else:
        for role in traffic.versions():
            click.echo(f"{role} {_describe(getattr(traffic, role))}")


def _describe(part: Canary | Shadow | None) -> str:
    if part is None:
        return "none"
    share = f"version {part.version}, {100 * part.share:g}%"
    if isinstance(part, Shadow):
        return share
    return f"{share} (fail {100 * part.fail:g}%, slower {part.slower:g})"


def _effect(folder: Path, stable: str | None, traffic: Traffic) -> str:
    """Return what clients get from now on."""
    model = folder.name
    if stable is None:
        return f"{TRAFFIC} has no effect without an alias {STABLE}"
    if not traffic.versions():
        return (
            f"version {stable}, which {STABLE} names, answers all requests for {model}, whatever "
            f"the policy of the service is; to serve {model} by that policy, remove "
            f"{folder / TRAFFIC}"
        )
    rest = (
        f"version {stable}, which {STABLE} names, answers all other requests for {model}, whatever "
        "the policy of the service is"
    )
    if traffic.canary is None:
        return rest
    return f"{rest}; to promote the canary: triceps alias {model} {STABLE} {traffic.canary.version}"
