"""Server, client, canary and deployment files."""
