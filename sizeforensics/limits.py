"""Guards against hostile input: what a reader does at most before it refuses a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of the readers; each is checked with ``>``, so the value itself is allowed.

    The defaults let every model through that its own runtime loads on an ordinary machine. An error
    names the bound that was met; ``--limits NAME=N`` and ``inspect(path, limits=Limits(...))`` move it.
    """

    archive_entries: int = 1_000_000
    """Records of one ZIP archive."""
    archive_directory_bytes: int = 256 << 20
    """Bytes of the directory of one ZIP archive, which is read as a whole."""
    inflated_bytes: int = 2 << 30
    """Bytes the deflated records of one archive may inflate to together."""
    pickle_bytes: int = 256 << 20
    """Bytes of one pickle stream, inflated."""
    pickle_opcodes: int = 8_000_000
    """Opcodes of one pickle stream; about 32 for each tensor of a checkpoint."""
    pickle_objects: int = 1_000_000
    """Containers, calls, references and payloads of one pickle; about 6 for each tensor."""
    pickle_stack: int = 1_000_000
    """Depth of the pickle machine's stack and of nested containers on it."""
    pickle_memo: int = 5_000_000
    """Entries of the pickle machine's memo."""
    protobuf_nesting: int = 100
    """Depth of nested protobuf messages; 100 is the default of every protobuf runtime."""
    graph_nodes: int = 5_000_000
    """Nodes of one ONNX model, subgraphs and functions included."""
    structure_bytes: int = 1 << 30
    """Bytes of an ONNX file that are not tensor payload."""
    json_bytes: int = 100_000_000
    """Bytes of one JSON text, also once decoded; what the safetensors crate allows for a header (MAX_HEADER_SIZE)."""
    json_nesting: int = 128
    """Depth of nested arrays and objects in JSON; the limit of the parser safetensors uses."""
    json_values: int = 3_000_000
    """Values and keys in one JSON text; a header has about twelve for each tensor."""
    tensors: int = 150_000
    """Tensors of one artifact, each of which takes about 3 kB of memory to inspect."""
    tensor_rank: int = 64
    """Dimensions of one tensor; what numpy and the operators of torch can take."""
    spans: int = 20_000_000
    """Spans of one file before equal neighbours are joined; about 20 for each node of a graph."""


DEFAULT_LIMITS = Limits()
