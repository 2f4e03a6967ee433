"""The catalogue of threats, phrase by phrase, with the cases that carry each and the outcome they get.

``decided`` is the row of the table "Where there was a choice" in SECURITY.md that tells users which of
several safe outcomes a phrase has, and why.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.hostile.case import ACCEPT, FLAG, REFUSE


@dataclass(frozen=True)
class Threat:
    """``cases`` are beginnings of their names, table first, or ``file::test`` of another test."""

    phrase: str
    outcomes: tuple[str, ...]
    cases: tuple[str, ...]
    decided: str = ""


THREATS = [
    # -- ZIP ---------------------------------------------------------------------------------------
    Threat("deflate bomb in a storage", (ACCEPT,), ("zip: deflate bomb: a storage of 64 MiB",)),
    Threat("a record that inflates past its declared size", (REFUSE,),
           ("zip: deflate bomb: a storage that inflates past", "zip: deflate bomb: a storage that cannot reach"),
           "a deflated record that is longer than it declares, or cannot be as long"),
    Threat("the pickle record itself inflates to 1 GiB", (REFUSE,), ("zip: pickle record: inflates past the limit",)),
    Threat("many directory entries on one local record", (REFUSE,), ("zip: overlap: two entries",)),
    Threat("quoted overlap (CVE-2019-9674, CVE-2024-0450)", (REFUSE,), ("zip: overlap: a record quotes",)),
    Threat("two records of one name", (FLAG,), ("zip: twice: ",),
           "two records of one name; headers that disagree; a wrong checksum"),
    Threat("local and central name, flags, sizes or method disagree (CVE-2025-1944, -1945)", (FLAG,),
           ("zip: headers disagree: names", "zip: headers disagree: flags", "zip: headers disagree: method",
            "zip: headers disagree: size")),
    Threat("wrong or zero CRC", (FLAG,), ("zip: CRC: wrong", "zip: CRC: zero")),
    Threat("end record inside the comment", (FLAG, REFUSE), ("zip: ends: the same end record", "zip: ends: an end record of nothing"),
           "an end record of an empty archive in the comment"),
    Threat("two archives concatenated", (FLAG,), ("zip: ends: two archives",),
           "bytes in front of, between or behind an archive's records; a second archive"),
    Threat("prefix with or without adjusted offsets", (FLAG,), ("zip: ends: a prefix with ", "zip: ends: a prefix without ")),
    Threat("bytes after the end", (FLAG,), ("zip: ends: bytes behind",)),
    Threat("offsets that cannot be reconciled", (REFUSE,), ("zip: ends: offsets",)),
    Threat("ZIP64 contradiction", (REFUSE,), ("zip: numbers: ZIP64 contradicts", "zip: numbers: ZIP64 end record elsewhere")),
    Threat("2^62 sizes", (REFUSE,), ("zip: numbers: sizes of 2^62",)),
    Threat("offsets past the end", (REFUSE,), ("zip: numbers: an offset past",)),
    Threat("directory inside data", (REFUSE,), ("zip: numbers: the directory inside",)),
    Threat("truncated directory", (REFUSE,), ("zip: numbers: a truncated directory",)),
    Threat("wrong entry count", (REFUSE,), ("zip: numbers: more entries", "zip: numbers: fewer entries")),
    Threat("gaps between records", (FLAG,), ("zip: hidden: gaps",)),
    Threat("local records not in the directory", (FLAG,), ("zip: hidden: a record that is not",)),
    Threat("payload hidden in padding", (FLAG,), ("zip: hidden: payload",)),
    *(Threat(f"names: {kind}", (FLAG,), (f"zip: names: {kind}",)) for kind in (
        "parent directory", "absolute", "NUL", "ANSI", "newline", "right-to-left", "60 kB", "empty", "invalid UTF-8")),
    Threat("200,000 entries", (ACCEPT,), ("zip: size: 200,000",)),
    Threat("ZIP inside ZIP", (ACCEPT,), ("zip: size: an archive in",)),
    Threat("month 15", (ACCEPT,), ("zip: size: month 15",)),
    Threat("unsupported methods", (REFUSE,), ("zip: features: an unsupported",)),
    Threat("encryption", (REFUSE,), ("zip: features: encryption",)),
    Threat("multi-disk", (REFUSE,), ("zip: features: several disks",)),
    Threat("data descriptors (12, 16, 20, 24 bytes)", (ACCEPT,),
           tuple(f"zip: descriptors: {size} bytes" for size in (12, 16, 20, 24))),
    Threat("ZIP64 records", (ACCEPT,), ("zip: descriptors: ZIP64",)),
    # -- pickle ------------------------------------------------------------------------------------
    *(Threat(f"any callable through {kind}", (FLAG,), (f"pickle: callables: {case}",)) for kind, case in (
        ("REDUCE", "REDUCE"), ("INST", "INST"), ("OBJ", "OBJ"), ("NEWOBJ_EX", "NEWOBJ_EX"), ("EXT*", "EXT1"),
        ("computed STACK_GLOBAL", "computed STACK_GLOBAL"), ("BUILD", "BUILD"))),
    Threat("memo and DUP laughs", (FLAG,), ("pickle: laughs: through the memo", "pickle: laughs: by DUP"),
           "a pickle that is deep, or shares a value exponentially often"),
    Threat("keys that are deeply shared tuples", (FLAG,), ("pickle: laughs: keys",),
           "a pickle that is deep, or shares a value exponentially often"),
    Threat("300,000 nested lists", (FLAG,), ("pickle: laughs: 300,000",),
           "a pickle that is deep, or shares a value exponentially often"),
    Threat("lengths of 2^62", (REFUSE,), ("pickle: streams: length of 2^62", "pickle: streams: text length past")),
    Threat("negative lengths", (REFUSE,), ("pickle: streams: negative length",)),
    Threat("huge frames", (REFUSE,), ("pickle: streams: huge frame",)),
    Threat("opcode across a frame's end", (REFUSE,), ("pickle: streams: an opcode across",)),
    Threat("memo index 2^32 - 1", (ACCEPT,), ("pickle: memo: index",)),
    Threat("a million-digit integer", (ACCEPT,), ("pickle: numbers: a million digits",)),
    Threat("a 1 MB LONG4", (ACCEPT,), ("pickle: numbers: LONG4",)),
    Threat("no STOP", (REFUSE,), ("pickle: streams: no STOP",)),
    Threat("a second pickle", (FLAG,), ("pickle: streams: a second pickle",)),
    Threat("stack underflow", (REFUSE,), ("pickle: streams: underflow", "pickle: streams: no MARK")),
    Threat("unset memo", (REFUSE,), ("pickle: streams: unset memo",)),
    Threat("odd SETITEMS", (REFUSE,), ("pickle: streams: odd SETITEMS",)),
    Threat("empty record", (REFUSE,), ("pickle: streams: empty",)),
    Threat("tensor outside its storage", (FLAG,), ("pickle: tensors: outside", "pickle: tensors: offset outside"),
           "a tensor that leaves its storage, or of an impossible shape or type"),
    Threat("2^62 products", (FLAG,), ("pickle: tensors: 2^62 products",)),
    Threat("negative or non-integer shape", (FLAG,), ("pickle: tensors: negative shape", "pickle: tensors: shape of text")),
    Threat("unknown dtype", (FLAG,), ("pickle: tensors: unknown type",)),
    Threat("storage shorter than declared (CVE-2026-24747)", (FLAG,), ("pickle: tensors: storage shorter",)),
    Threat("unhashable keys", (FLAG,), ("pickle: keys: unhashable",), "a list or dict as a key, a key twice"),
    Threat("cyclic containers", (FLAG,), ("pickle: keys: cyclic",),
           "containers that hold themselves"),
    Threat("non-string keys", (ACCEPT,), ("pickle: keys: no text",), "keys that are no text"),
    Threat("duplicate keys", (FLAG,), ("pickle: keys: duplicate",), "a list or dict as a key, a key twice"),
    Threat("non-UTF-8 names", (FLAG,), ("pickle: names: not UTF-8",)),
    Threat("surrogate names", (FLAG,), ("pickle: names: surrogate",)),
    Threat("ANSI names", (FLAG,), ("pickle: names: ANSI", "other: names: ANSI"), "names of tensors and nodes of over 4,096 characters"),
    Threat("megabyte-long names", (FLAG,), ("pickle: names: a megabyte", "other: names: a megabyte"),
           "names of tensors and nodes of over 4,096 characters"),
    Threat("20 million opcodes", (REFUSE,), ("pickle: size: 20 million",),
           "more opcodes, memo entries, tensors or JSON values than the limits"),
    Threat("5 million memo entries", (REFUSE,), ("pickle: size: 5 million",),
           "more opcodes, memo entries, tensors or JSON values than the limits"),
    Threat("legacy: magic number computed instead of stored", (REFUSE,), ("pickle: legacy: magic",),
           "legacy: a computed magic number"),
    Threat("legacy: payload in the third pickle", (FLAG,), ("pickle: legacy: payload",)),
    Threat("legacy: storage counts of -1 or 2^62", (REFUSE,), ("pickle: legacy: count of -1", "pickle: legacy: count of 2^62"),
           "legacy: an impossible count"),
    Threat("legacy: missing or duplicate keys", (FLAG,), ("pickle: legacy: missing", "pickle: legacy: duplicate"),
           "legacy: a storage twice or missing, another byte order"),
    Threat("legacy: big-endian", (FLAG,), ("pickle: legacy: big-endian",), "legacy: a storage twice or missing, another byte order"),
    Threat("legacy: truncation anywhere", (REFUSE,), ("other: truncated: legacy",)),
    # -- ONNX, safetensors, everything else ------------------------------------------------------------
    *(Threat(f"external data through {phrase}", (FLAG,), (f"other: external location: {case}",),
             "external data that may not or cannot be read") for phrase, case in (
        ("..", ".."), ("nested ..", "nested .."), ("absolute path", "absolute"), ("URL", "URL"), ("NUL", "NUL"),
        ("symlink", "symlink"), ("symlinked parent", "symlinked parent"), ("hard link", "hard link"), ("FIFO", "FIFO"),
        ("device", "a device"), ("loop", "loop"), ("itself", "itself"))),
    *(Threat(f"external offset or length {phrase}", (FLAG,), (f"other: external numbers: {case}",),
             "external data that may not or cannot be read") for phrase, case in (
        ("negative", "offset negative"), ("negative", "length negative"), ("10^400", "offset 10^400"),
        ("1_0", "offset underscore"), ("of non-ASCII digits", "offset other digits"))),
    Threat("duplicate or unknown keys of external data", (FLAG,),
           ("other: external numbers: duplicate key", "other: external numbers: unknown key"),
           "external data that may not or cannot be read"),
    Threat("overlapping ranges of external data", (FLAG,), ("other: external numbers: overlapping",),
           "external data that overlap, lie beside data in the model, or belong to no dense initializer"),
    Threat("external data inside an attribute, sparse initializer or function", (FLAG,),
           ("other: external place: in an attribute", "other: external place: in a sparse", "other: external place: in a function")),
    Threat("external data beside raw_data", (FLAG,), ("other: external place: beside",)),
    Threat("negative dimensions", (FLAG,), ("other: dimensions: negative",)),
    Threat("overflowing dimensions", (FLAG,), ("other: dimensions: overflowing",)),
    Threat("200,000 dimensions", (REFUSE,), ("other: dimensions: 200,000",),
           "a broken wire format, 100 nested messages, over 64 dimensions in ONNX"),
    Threat("unknown data type", (FLAG,), ("other: dimensions: unknown",)),
    Threat("payload longer or shorter than the shape says", (FLAG,), ("other: dimensions: payload longer", "other: dimensions: payload shorter")),
    Threat("subgraphs 30 deep", (ACCEPT,), ("other: subgraphs: 30 deep", "other: subgraphs: 2,500 chains")),
    Threat("subgraphs 3,000 deep", (REFUSE,), ("other: subgraphs: 3,000",)),
    *(Threat(f"wire: {kind}", (REFUSE,), (f"other: wire: {kind}",)) for kind in (
        "overlong varint", "length past the end", "field 0", "wire type 7", "stray group")),
    *(Threat(f"wire: {kind}", (FLAG,), (f"other: wire: {kind}",),
             "unknown ONNX fields, a graph twice, packed and unpacked elements mixed") for kind in (
        "unknown field", "graph twice", "packed and unpacked mixed")),
    Threat("three million two-byte nodes", (ACCEPT,), ("other: nodes: three million",)),
    Threat("recursive functions", (FLAG,), ("other: something else: recursive", "other: something else: functions that call each"),
           "functions of an ONNX model that call themselves"),
    *(Threat(f"{kind}", (REFUSE,), (f"other: something else: {kind}",)) for kind in (
        "text-format protobuf", "a bare TensorProto", "UTF-8-mangled", "a git-LFS pointer", "an HTML page", "empty",
        "magic only", "magic of a pickle only")),
    Threat("wrong extension", (ACCEPT,), ("other: something else: a checkpoint called",)),
    *(Threat(f"safetensors: {kind}", (REFUSE,), (f"other: safetensors: {kind}",)) for kind in (
        "length 0", "length 1", "length 2^63", "length past the end", "length over 100 MB", "a hole", "an overlap",
        "a tail", "deep JSON", "100,000 digits", "NaN", "duplicate keys", "shape against offsets")),
    Threat("TorchScript code and debug pickles that would do harm if run", (FLAG,), ("other: TorchScript: ",),
           "TorchScript code that imports, debug pickles that call"),
    *(Threat(f"{kind} as the input", (REFUSE,), (f"other: input: {kind}",)) for kind in (
        "FIFO", "directory", "device", "symlink loop")),
    Threat("file shortened while read", (), ("test_surroundings.py::test_a_file_that_changes_while_it_is_read",)),
    Threat("closed stdout", (), ("test_surroundings.py::test_closed_streams_change_no_file_and_no_verdict",)),
    Threat("LANG=C", (), ("test_surroundings.py::test_poor_locales_get_the_same_verdict",)),
    Threat("a truncated file is refused", (REFUSE,), ("other: truncated: ",)),
]  # fmt: skip
