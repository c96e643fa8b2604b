"""Tuner: the stock TFX Tuner, which is also given the SequenceProfile."""
