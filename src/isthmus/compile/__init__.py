"""Documents to Mesh: the fold over KINDS."""

from isthmus.compile.compiler import Compiled, Compiler

__all__ = ["Compiled", "Compiler"]
