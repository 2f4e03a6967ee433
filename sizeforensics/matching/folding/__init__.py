"""Weights that another computation was folded into: batch-norms, other norms, rotations."""
