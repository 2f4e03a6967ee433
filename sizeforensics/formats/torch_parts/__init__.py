"""What the formats of PyTorch share: archives, pickled tensors and modules, roles of keys."""
