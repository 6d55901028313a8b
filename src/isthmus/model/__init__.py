"""The frozen picture of gateway and mesh that the manifests add up to. Every value knows its origin."""
