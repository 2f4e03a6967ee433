"""Tensors put together from several others, or cut out of them."""
