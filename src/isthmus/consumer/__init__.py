"""Consumers' credentials: how API keys are written, and the store that holds what is needed to know them again."""
