"""Metrics, thresholds and results of the evaluation by slice."""
