"""The data contract: feature names, dataset descriptions, curated schemas."""
