"""Open-loop load on a model server."""
