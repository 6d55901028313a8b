"""``isthmus ca``: trust."""

from __future__ import annotations

import typer

from isthmus.cli.lazy import Named, group_of

COMMANDS: tuple[Named, ...] = (
    Named("root", module="ca_root"),
    Named("bundle", module="ca_bundle"),
    Named("issue", module="ca_issue"),
    Named("inspect", module="ca_inspect"),
    Named("rotate", module="ca_rotate"),
    Named("revoke", module="ca_revoke"),
    Named("crl", module="ca_crl"),
    Named("audit", module="ca_audit"),
)

app = typer.Typer(
    name="ca",
    cls=group_of(COMMANDS),
    help="Trust: the certificate authority of this state directory.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    pass
