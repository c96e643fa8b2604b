"""Training on several workers, a process each."""
