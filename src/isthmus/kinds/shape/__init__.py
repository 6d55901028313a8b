"""What several kinds share: the Kind itself, string matches, selectors, hosts."""
