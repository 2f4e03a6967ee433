"""Encodings that know no model: ZIP, tar, pickle, protobuf and JSON as spans and plain values."""
