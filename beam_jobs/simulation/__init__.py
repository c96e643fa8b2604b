"""The simulated exposure log: users, catalogue, exposures, click rule and outcomes."""
