"""Whether what runs is what was declared: Envoys as they are, compared with what they were given."""
