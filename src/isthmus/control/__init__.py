"""The control plane's stages between the pure core and its servers; ``serve/`` connects them."""
