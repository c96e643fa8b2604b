"""A model is served to real examples before anyone relies on it."""
