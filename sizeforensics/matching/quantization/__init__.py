"""Floats and the integers they were quantised to, by stored scales or by content."""
