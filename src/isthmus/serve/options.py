"""What the control plane is told when it is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from isthmus.proxy.ports import Published


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``isthmus serve`` is told."""

    paths: tuple[str, ...]
    state: Path
    published: tuple[Published, ...] = ()
    jwks_files: Mapping[str, Path] = field(default_factory=dict)
    jwks_refresh: timedelta = timedelta(minutes=20)
    svid_ttl: timedelta = timedelta(hours=1)
    strict: bool = False
    supervisor: int | None = None
    """The pid of ``up``, whose pipe is our standard input; None: on our own."""
