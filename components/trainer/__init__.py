"""Trainer: the stock TFX Trainer, which is also given the SequenceProfile."""
