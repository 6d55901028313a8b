"""Ports of this machine: asked from the system once, kept in the state across restarts."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isthmus.errors import PortTaken
from isthmus.model.world import Address, PortKey

_FILE = "ports.json"
_LENT_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20_000
"""Below stand most well-known services."""
_TRIES = 100
_chance = random.SystemRandom()


class PrivateFiles(Protocol):
    """The state directory, as far as ports need it."""

    def read(self, name: str) -> bytes | None: ...
    def write_private(self, name: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Published:
    """``-p [ADDR:]HOST:DECLARED`` or ``-p NS/GATEWAY:HOST:DECLARED``: where a gateway's declared port is opened."""

    address: str
    port: int
    declared: int
    gateway: str | None = None
    """``namespace/name`` of the gateway proxy it is for; None: whichever declares the port."""


class PortBook:
    """Remembers which address each listening place has."""

    def __init__(self, files: PrivateFiles, published: Iterable[Published] = (), *, check: bool = True) -> None:
        """``check``: kept ports that somebody holds now are given up; not while our own Envoys hold them."""
        self._files = files
        self._published = tuple(published)
        self._check = check
        self._addresses: dict[PortKey, Address] = {}
        self._loaded = False

    def settle(self, wanted: Mapping[PortKey, str], taken: Iterable[PortKey] = ()) -> Mapping[PortKey, Address]:
        """An address for each of ``wanted`` (place -> interface to listen on); ``taken`` were refused and get another.

        Raises PortTaken for a published port that two gateways declare.
        """
        self._load_once()
        before = dict(self._addresses)
        for key in taken:
            self._addresses.pop(key, None)
        for key, interface in wanted.items():
            published = self._publication(key)
            if published is not None:
                self._addresses[key] = self._publish(key, published, wanted)
            elif key not in self._addresses or self._addresses[key].host != interface:
                self._addresses[key] = Address(interface, free_port(interface, self._used()))
        if before != self._addresses:
            self._save()
        return {key: self._addresses[key] for key in wanted}

    def kept(self, owner: str, purpose: str, interface: str) -> Address:
        """A port of a process of ours that is no proxy."""
        key = PortKey(owner, purpose, 0)
        self._load_once()
        if key not in self._addresses:
            self._addresses[key] = Address(interface, free_port(interface, self._used()))
            self._save()
        return self._addresses[key]

    def unused(self, wanted: Iterable[PortKey]) -> tuple[Published, ...]:
        """What ``-p`` publishes and nobody declares."""
        used = {self._publication(key) for key in wanted}
        return tuple(one for one in self._published if one not in used)

    def _used(self) -> set[int]:
        return {address.port for address in self._addresses.values()} | {one.port for one in self._published}

    def _publication(self, key: PortKey) -> Published | None:
        if key.purpose != "gateway":
            return None
        _, namespace, name = key.proxy.split("~", 2)
        fitting = [
            p for p in self._published if p.declared == key.number and p.gateway in (None, f"{namespace}/{name}")
        ]
        return next((p for p in fitting if p.gateway is not None), fitting[0] if fitting else None)

    def _publish(self, key: PortKey, published: Published, wanted: Iterable[PortKey]) -> Address:
        other = next((one for one in wanted if one != key and self._publication(one) is published), None)
        if other is not None:
            raise PortTaken(
                f"port {published.port} is published for {other.proxy} and for {key.proxy}: "
                f"say which with -p NAMESPACE/GATEWAY:{published.port}:{published.declared}"
            )
        return Address(published.address, published.port)

    def _load_once(self) -> None:
        """What an earlier run used, where it can still be used."""
        if self._loaded:
            return
        self._loaded = True
        known = _entries(self._files.read(_FILE))
        self._addresses = {key: address for key, address in known.items() if not self._check or is_free(address)}

    def _save(self) -> None:
        entries = [
            {"proxy": k.proxy, "purpose": k.purpose, "number": k.number, "host": a.host, "port": a.port}
            for k, a in sorted(self._addresses.items())
        ]
        self._files.write_private(_FILE, json.dumps(entries, indent=1).encode())


def _entries(raw: bytes | None) -> dict[PortKey, Address]:
    """A file that cannot be understood counts as none: ports can be asked for again."""
    try:
        entries = json.loads(raw) if raw is not None else []
        return {PortKey(e["proxy"], e["purpose"], e["number"]): Address(e["host"], e["port"]) for e in entries}
    except (ValueError, KeyError, TypeError):
        return {}


def check_published(published: Iterable[Published]) -> None:
    """Raises PortTaken, before anything starts, for a port that cannot be opened, or not twice."""
    taken: set[Address] = set()
    for wanted in published:
        address = Address(wanted.address, wanted.port)
        if address in taken:
            raise PortTaken(f"{address} is asked for twice (-p {wanted.port}:...)")
        taken.add(address)
        problem = _bind_problem(address)
        if problem is not None:
            raise PortTaken(f"{address} cannot be opened: {problem} (asked for with -p, for port {wanted.declared})")


def is_free(address: Address) -> bool:
    return _bind_problem(address) is None


def _bind_problem(address: Address) -> str | None:
    """What the system has against it; None if nothing."""
    with socket.socket(_family(address.host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def free_port(interface: str, used: Iterable[int] = ()) -> int:
    """A port that nobody listens on, and that the system does not lend to outgoing connections, if there is one.

    A lent one would be gone for a process that is killed and started again under load.
    """
    avoided = set(used)
    unlent = range(_LOWEST, _first_lent())
    for unasked in _chance.sample(unlent, min(_TRIES, len(unlent))):
        if unasked not in avoided and is_free(Address(interface, unasked)):
            return unasked
    while True:
        with socket.socket(_family(interface), socket.SOCK_STREAM) as probe:
            probe.bind((interface, 0))
            port: int = probe.getsockname()[1]
        if port not in avoided:
            return port


def _first_lent() -> int:
    """The lowest port that the system gives to outgoing connections: Linux says, elsewhere as IANA advises."""
    try:
        return int(_LENT_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 49152


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
