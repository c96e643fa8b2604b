"""SequenceProfile: what the training split says about lengths and densities."""
