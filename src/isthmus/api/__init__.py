"""The control plane's HTTP API: a Unix socket for those who may, a loopback port for health and metrics."""
