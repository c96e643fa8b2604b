"""Layers, backbones, and what turns them into a trained, exported ranker."""
