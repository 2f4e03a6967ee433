"""Which tensor became which, and the proof."""
