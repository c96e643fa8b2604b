"""Keras layers, usable alone in any Keras model."""
