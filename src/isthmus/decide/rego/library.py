"""The engine's library, rego-cpp by ``regopy``, loaded so that it can live beside others in C++."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from typing import Any

from isthmus.errors import PolicyBroken


@cache
def regopy() -> Any:
    """Nobody else imports it. Raises PolicyBroken: it is not installed.

    The library brings an allocator of its own under C++'s names for ``new`` and ``delete``. If libstdc++ is there
    before it (gRPC and protobuf load it), what that allocates would be freed by the other: the process dies. With
    libstdc++ first in the global scope all of them use its own.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)
    try:
        import regopy as found
    except ImportError:
        raise PolicyBroken("regopy is not installed: pip install 'isthmus[rego]'") from None
    return found
