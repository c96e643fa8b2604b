"""SchemaGate: stops a run whose data does not keep its contract."""
