"""From the Mesh to Envoy's resources, proxy by proxy."""
