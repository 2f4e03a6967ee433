"""How many bytes snapshots take, of models of any number of tensors, and how long they do."""
