"""Exit codes: public, and the same for every command."""

EXIT_USER = 1
"""The manifests, the tests or the comparison are at fault."""
EXIT_USAGE = 2
EXIT_OURS = 70
"""A fault of ours (sysexits.h, EX_SOFTWARE)."""
