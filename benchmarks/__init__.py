"""Benchmarks that anyone can run: accuracy against planted causes."""
