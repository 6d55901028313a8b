"""The composition root: the only place that builds the control plane's services and connects them."""
