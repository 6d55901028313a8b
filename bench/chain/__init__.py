"""The proxies that ``bench/chains.py`` sets side by side."""
