"""Coverage-guided fuzzing of every reader, of the whole of ``inspect`` and of ``diff``."""
