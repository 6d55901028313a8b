"""``isthmus ca rotate``: another root, or another signing certificate, without a dropped request."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from isthmus.api.authority import CertificateAuthority
from isthmus.cli.authority import authority_of
from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.errors import Refused
from isthmus.identity.rotation import Step

_INTERMEDIATE = "intermediate"
_LOOK_SECONDS = 0.2


def rotate(
    of_root: Annotated[bool, typer.Option("--root", help="The root (the default).")] = False,
    intermediate: Annotated[bool, typer.Option("--intermediate", help="The signing certificate below it.")] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make the next root; it is trusted, and signs not.")
    ] = False,
    activate: Annotated[bool, typer.Option("--activate", help="Let the prepared root sign.")] = False,
    revoke_old: Annotated[bool, typer.Option("--revoke-old", help="Trust replaced roots no more.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Though proxies or certificates still need it.")] = False,
    timeout: Annotated[int, typer.Option("--timeout", metavar="SECONDS", help="How long proxies are waited for.")] = 60,
    state: State = DEFAULT_STATE,
) -> int:
    """Replace the root or the signing certificate, without a dropped request.

    Without a step, the root is prepared, every connected proxy is waited for, and it is activated. The old root stays
    trusted until nothing that it signed lives, or until --revoke-old.

    Examples:

        isthmus ca rotate

        isthmus ca rotate --intermediate

        isthmus ca rotate --root --revoke-old
    """
    steps = [step for step, said in zip(Step, (prepare, activate, revoke_old), strict=True) if said]
    if len(steps) > 1 or (intermediate and (of_root or steps)):
        raise typer.BadParameter("one of --intermediate, --prepare, --activate and --revoke-old")
    with authority_of(state) as authority:
        if intermediate:
            authority.rotate(_INTERMEDIATE, force=force)
            typer.echo("another signing certificate signs now", err=True)
        elif steps:
            authority.rotate(steps[0], force=force)
            typer.echo(_SAID[steps[0]], err=True)
        else:
            _rotate_root(authority, timeout, force=force)
    return 0


def _rotate_root(authority: CertificateAuthority, timeout: int, *, force: bool) -> None:
    if not any(one["role"] == "next" for one in authority.shown()["roots"]):
        authority.rotate(Step.PREPARE, force=force)
        typer.echo(_SAID[Step.PREPARE], err=True)
    deadline = time.monotonic() + timeout
    while (late := authority.shown()["behind"]) and not force:
        if time.monotonic() > deadline:
            raise Refused(f"not every proxy trusts the next root yet: {', '.join(late)}; it stays prepared")
        time.sleep(_LOOK_SECONDS)
    authority.rotate(Step.ACTIVATE, force=force)
    typer.echo(_SAID[Step.ACTIVATE], err=True)


_SAID = {
    Step.PREPARE: "the next root is prepared and trusted; clients outside the mesh need `isthmus ca root` anew",
    Step.ACTIVATE: "the next root signs now; the old one is trusted until nothing that it signed lives",
    Step.REVOKE_OLD: "the old root is trusted no more",
}
