"""Who can get a token from the demo's identity provider. Public knowledge: nothing here protects anything."""

from __future__ import annotations

from dataclasses import dataclass, field

AUDIENCE = "shop"
"""The claim ``aud`` of every token."""


@dataclass(frozen=True, slots=True)
class Account:
    """A person (password grant) or a program (client credentials grant)."""

    name: str
    """The user name or client id, and the claim ``sub``."""
    secret: str = field(repr=False)
    """The password or client secret: the name itself, so that nothing has to be looked up."""
    full_name: str
    role: str
    scopes: tuple[str, ...]


PEOPLE = (
    Account("alice", "alice", "Alice Moreau", "customer", ("orders:read",)),
    Account("bob", "bob", "Bob Lindqvist", "customer", ("orders:read", "orders:write")),
    Account("admin", "admin", "Ada Admin", "staff", ("orders:read", "orders:write")),
)
"""Alice may look and not buy; Bob may buy; the staff sees everybody's orders."""

PROGRAMS = (Account("nightly-report", "nightly-report", "Nightly report", "staff", ("orders:read",)),)


def find(accounts: tuple[Account, ...], name: str) -> Account | None:
    return next((account for account in accounts if account.name == name), None)
