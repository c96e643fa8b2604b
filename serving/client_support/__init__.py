"""What the client is made of; callers need its configuration, results and errors."""
