"""What people see: one presentation model and a renderer per kind of output."""
