"""Configuration, create_pipeline, runners and the command line."""
