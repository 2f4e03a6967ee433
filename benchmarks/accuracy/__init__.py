"""Accuracy: files with planted causes, and how many of the planted bytes a diff attributes right.

``python -m benchmarks.accuracy`` builds every recipe of the table in CAUSES.md with real torch and
onnx calls and compares what ``sizeforensics.diff`` says with what the recipe planted.
"""
