"""What every refusal says: path, offset, expected, got; where a limit refuses, its name and how to raise it."""

from __future__ import annotations

REFUSALS = {
    "zip: deflate bomb: a storage that inflates past its size":
        "model: at 0x113: expected record 'm/data/0' to inflate to 16 bytes, got more",
    "zip: deflate bomb: a storage that cannot reach its size":
        "model: at 0x1af: expected record 'm/data/0' to inflate to at most 2,064 bytes, got 2,304",
    "zip: pickle record: inflates past the limit":
        "model: at 0x28: expected at most 268,435,456 pickle bytes (--limits pickle_bytes=N allows more), got 269,484,032 bytes",
    "zip: overlap: two entries for one local record":
        "model: at 0xbe: expected record 'm/data/0' to end before the next record or directory at 0xbe, got data at [0xe4, 0xf4)",
    "zip: overlap: a record quotes the one behind it":
        "model: at 0xbe: expected record 'm/data/0' to end before the next record or directory at 0xe4, got data at [0xe4, 0x120)",
    "zip: ends: an end record of nothing in the comment":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got an empty ZIP archive",
    "zip: ends: offsets that cannot be reconciled":
        "model: at 0x22a: expected a directory of 222 bytes at 0x3039 to end before this, got one that reaches 12,013 bytes further",
    "zip: numbers: ZIP64 contradicts itself":
        "model: at 0x276: expected 4 records on the only disk, got 99",
    "zip: numbers: ZIP64 end record elsewhere":
        "model: at 0x14c: expected an archive directory, got something else",
    "zip: numbers: sizes of 2^62":
        "model: at 0x1bd: expected record 'm/data/0' before the directory at 0x14c, got 4,611,686,018,427,387,904 bytes after a header at 0xed",
    "zip: numbers: an offset past the end":
        "model: at 0x1bd: expected record 'm/data/0' before the directory at 0x14c, got 16 bytes after a header at 0x7fffffff",
    "zip: numbers: the directory inside the data":
        "model: at 0xa: expected an archive directory, got something else",
    "zip: numbers: a truncated directory":
        "model: at 0x184: expected directory entry 2 of 4, got something else",
    "zip: numbers: more entries than there are":
        "model: at 0x22a: expected directory entry 5 of 5, got the end of the directory",
    "zip: numbers: fewer entries than there are":
        "model: at 0x1f3: expected the end of a directory of 3 entries, got 55 more bytes",
    "zip: features: an unsupported method":
        "model: at 0x1bd: expected record 'm/data/0' stored or deflated, got compression method 12",
    "zip: features: encryption":
        "model: at 0x1bd: expected record 'm/data/0' in the clear, got encryption",
    "zip: features: several disks":
        "model: at 0x22a: expected an archive on one disk, got one on several",
    "zip: found: a ZIP64 field of one size for two":
        "model: at 0x1bd: expected a ZIP64 field with 2 sizes, got 1",
    "zip: found: a comment full of end records":
        "model: at 0x0: expected an archive directory, got something else",
    "pickle: streams: no STOP":
        "model: at 0x2b: expected a STOP opcode, got the end of the pickle",
    "pickle: streams: underflow":
        "model: at 0x2a: expected values on the stack, above a mark, for opcode 0x73, got too few of them",
    "pickle: streams: unset memo":
        "model: at 0x2a: expected a memo entry that was set before, got entry 7",
    "pickle: streams: empty":
        "model: at 0x28: expected a STOP opcode, got the end of the pickle",
    "pickle: streams: odd SETITEMS":
        "model: at 0x2e: expected keys and values in pairs, got 1 of them",
    "pickle: streams: unknown opcode":
        "model: at 0x2a: expected a pickle opcode, got 0xff",
    "pickle: streams: no MARK":
        "model: at 0x2c: expected values on the stack, above a mark, for opcode 0x74, got too few of them",
    "pickle: streams: length of 2^62":
        "model: at 0x2a: expected 4,611,686,018,427,387,904 bytes of argument, got 2 bytes",
    "pickle: streams: negative length":
        "model: at 0x2a: expected a length, got -5",
    "pickle: streams: huge frame":
        "model: at 0x2a: expected a frame of 4,611,686,018,427,387,904 bytes, got 2 bytes",
    "pickle: streams: an opcode across the end of a frame":
        "model: at 0x3a: expected an opcode that ends with its frame at 0x37, got one that crosses it",
    "pickle: streams: text length past the end":
        "model: at 0x2a: expected 1,073,741,824 bytes of text, got 2 bytes",
    "pickle: size: 20 million opcodes":
        "model: at 0x7a12a6: expected at most 8,000,000 pickle opcodes (--limits pickle_opcodes=N allows more), got 8,000,001 and more",
    "pickle: size: 5 million memo entries":
        "model: at 0x4c4c04: expected at most 5,000,000 pickle memo (--limits pickle_memo=N allows more), got 5,000,001 and more",
    "pickle: legacy: magic number computed":
        "model: at 0x0: expected a model, got a pickle (protocol 2) that holds no tensor",
    "pickle: legacy: count of -1":
        "model: at 0xec: expected the number of elements of storage 0, got -1",
    "pickle: legacy: count of 2^62":
        "model: at 0xf4: expected 18,446,744,073,709,551,616 bytes of storage 0, got 16 bytes",
    "pickle: bare: a pickle of harm and no tensor":
        "model: at 0x0: expected a model, got a pickle (protocol 4) that holds no tensor and refers to callable os.system",
    "other: dimensions: 200,000 dimensions":
        "model: at 0x1d: expected at most 64 tensor rank (--limits tensor_rank=N allows more), got a tensor of 36,363 dimensions or more",
    "other: subgraphs: 3,000 deep":
        "model: at 0x54f: expected at most 100 protobuf nesting (--limits protobuf_nesting=N allows more), got messages nested 101 deep",
    "other: wire: overlong varint":
        "model: at 0x3d: expected a varint of field 1, got a varint of more than 64 bits",
    "other: wire: length past the end":
        "model: at 0x3d: expected 1,099,511,627,776 bytes of field 7, got the end of the file after 0",
    "other: wire: field 0":
        "model: at 0x3d: expected a protobuf field number from 1 to 536,870,911, got 0",
    "other: wire: wire type 7":
        "model: at 0x3d: expected wire type 0, 1, 2 or 5, got 7 (undefined) for field 1",
    "other: wire: stray group":
        "model: at 0x3d: expected wire type 0, 1, 2 or 5, got 3 (start group) for field 1",
    "other: something else: text-format protobuf":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got an ONNX model in protobuf's text format",
    "other: something else: a bare TensorProto":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got a bare TensorProto of ONNX, which is one tensor and no model",
    "other: something else: a ModelProto without a graph":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got a protobuf message, perhaps of an ONNX model without a graph",
    "other: something else: UTF-8-mangled":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got binary data that was converted to UTF-8, beyond repair",
    "other: something else: a git-LFS pointer":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got a git-LFS pointer: the model itself was not downloaded (git lfs pull)",
    "other: something else: an HTML page":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got an HTML page: an error or login page was saved in place of the model",
    "other: something else: empty":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got an empty file",
    "other: something else: magic only":
        "model: at 0x4: expected a ZIP end record in the last 65,557 bytes, got none: the archive is cut short",
    "other: something else: magic of a pickle only":
        "model: at 0x2: expected a STOP opcode, got the end of the pickle",
    "other: something else: a pickle without a tensor":
        "model: at 0x0: expected a model, got a pickle (protocol 2) that holds no tensor",
    "other: safetensors: length 0":
        "model: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got an unknown format that begins with 00 00 00 00 00 00 00 00",
    "other: safetensors: length 1":
        "model: at 0x9: expected JSON, got what is none: Expecting property name enclosed in double quotes",
    "other: safetensors: length 2^63":
        "model: at 0x0: expected a header of 9,223,372,036,854,775,808 bytes, got 18 bytes behind its length",
    "other: safetensors: length past the end":
        "model: at 0x0: expected a header of 100 bytes, got 18 bytes behind its length",
    "other: safetensors: length over 100 MB":
        "model: at 0x0: expected at most 100,000,000 json bytes (--limits json_bytes=N allows more), got a header of 100,000,001 bytes",
    "other: safetensors: a hole":
        "model: at 0x8: expected data_offsets that begin at 0x10, got tensor 'b' at 0x14, which follows a hole",
    "other: safetensors: an overlap":
        "model: at 0x8: expected data_offsets that begin at 0x10, got tensor 'b' at 0x8, which overlaps the one before it",
    "other: safetensors: a tail":
        "model: at 0x56: expected the end of the file behind the last tensor, got 1 byte more",
    "other: safetensors: deep JSON":
        "model: at 0x8: expected at most 128 json nesting (--limits json_nesting=N allows more), got JSON that is nested deeper",
    "other: safetensors: 100,000 digits":
        "model: at 0x8: expected JSON, got a number of 100,000 characters",
    "other: safetensors: NaN":
        "model: at 0x8: expected JSON, got the number NaN",
    "other: safetensors: duplicate keys":
        "model: at 0x8: expected JSON, got the key 'a' twice in one object",
    "other: safetensors: shape against offsets":
        "model: at 0x8: expected 20 bytes of data for shape and dtype of tensor 'a', got '16'",
    "other: input: FIFO":
        "model: expected a regular file, got a FIFO",
    "other: input: directory":
        "model: expected a regular file, got a directory",
    "other: input: device":
        "/dev/zero: expected a regular file, got a device",
    "other: input: symlink loop":
        "model: expected a readable file, got too many levels of symbolic links",
    "other: input: missing":
        "nothing: expected a readable file, got no such file or directory",
    "other: input: name with newline and ANSI":
        "a\\nb\\x1b[2J: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got a text file that begins with 'text'",
    "other: truncated: ZIP":
        "model: at 0x180: expected a ZIP end record in the last 65,557 bytes, got none: the archive is cut short",
    "other: truncated: ONNX":
        "model: at 0x2: expected 51 bytes of field 7, got the end of the file after 36",
    "other: truncated: safetensors":
        "model: at 0x0: expected a header of 62 bytes, got 49 bytes behind its length",
    "other: truncated: tar":
        "model: at 0x800: expected a header or the end of the archive, got 0 bytes",
    "other: truncated: pickle":
        "model: at 0xa: expected 99 bytes of text, got 62 bytes",
    "other: truncated: legacy":
        "model: at 0xac: expected 4 bytes of argument, got 0 bytes",
    "other: input: a Core ML package":
        "model: expected a regular file, got a Core ML package (.mlpackage), which is a folder",
    "other: tar: a terabyte of zeros behind the end":
        "model: at 0x200: expected a STOP opcode, got the end of the pickle",
    "other: tar: a negative size":
        "model: at 0x7c: expected an octal number that is not negative, got b'-1\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'",
    "other: tar: a size past the end":
        "model: at 0x200: expected member 'storages' up to 0x200000200, got the end of the file at 0x200",
    "other: tar: a base-256 size of 2^70":
        "model: at 0x200: expected member 'storages' up to 0x800000000000000200, got the end of the file at 0x200",
    "other: found: a thousand groups in each other":
        "model: at 0x3d: expected wire type 0, 1, 2 or 5, got 3 (start group) for field 1",
    "other: found: one key written with and without an escape":
        "model: at 0x8: expected JSON, got the key 'a' twice in one object",
    "other: found: an infinite dimension":
        "model: at 0x8: expected a shape of tensor 'a', got a list of 1",
    "other: found: a name longer than the tar file":
        "model: at 0x200: expected member '././@LongLink' up to 0x200000200, got the end of the file at 0x200",
    "other: found: a snapshot of gigabytes of blanks":
        "model: at 0x0: expected at most 100,000,000 json bytes (--limits json_bytes=N allows more), got more once unpacked",
    "other: found: a snapshot of a stream cut short":
        "model: at 0x0: expected one compressed stream, got one cut short, or with a tail",
    "other: found: a snapshot of negative bytes":
        "model: at 0x0: expected an integer from 0 to 2**53 as files[0][1], got -1",
}  # fmt: skip
