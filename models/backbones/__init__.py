"""Backbones: what reads a history and returns a fixed-size vector."""
