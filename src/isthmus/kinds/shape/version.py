"""API versions that several kinds share."""

from __future__ import annotations

NETWORKING = ("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3")
