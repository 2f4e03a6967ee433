"""Tensors that a few numbers regenerate, or that repeat what is smaller."""
