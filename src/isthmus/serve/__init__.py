"""The composition root: the only place that builds the control plane's services and connects them."""

from isthmus.serve.options import ServeOptions
from isthmus.serve.services import serve

__all__ = ["ServeOptions", "serve"]
