"""The aggregated discovery service (delta xDS): snapshots to Envoys, in an order that breaks no request."""
