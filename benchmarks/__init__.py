"""Benchmarks that anyone can run: accuracy against planted causes, speed, and sizes of reports."""
