"""Isthmus: one zero-trust gateway and mesh from one set of Istio manifests."""

__version__ = "0.1.0"
