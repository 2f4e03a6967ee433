"""The steps of reading an ONNX model: messages, tensors, storages, external data."""
