"""Files that old versions of PyTorch wrote, written here as they did, for the tests of their readers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from typing import Any

import torch

STORAGES = {
    torch.float32: torch.FloatStorage, torch.float64: torch.DoubleStorage,
    torch.float16: torch.HalfStorage, torch.int64: torch.LongStorage, torch.uint8: torch.ByteStorage,
}  # fmt: skip


class Old:
    """What ``torch.save`` of version 0.1 wrote (``torch/serialization.py`` of v0.1.12)."""

    def __init__(self) -> None:
        self.tensors: dict[int, torch.Tensor] = {}
        self.storages: dict[int, torch.Tensor] = {}
        self.views: list[tuple[int, int, int, int]] = []

    def persistent_id(self, value: object) -> str | None:
        if isinstance(value, torch.Tensor):
            self.tensors[value._cdata] = value
            return str(value._cdata)
        return None

    def write(self, value: object, protocol: int = 2) -> dict[str, bytes]:
        """The four members."""
        out = io.BytesIO()
        pickler = pickle.Pickler(out, protocol)
        pickler.persistent_id = self.persistent_id  # type: ignore[method-assign]
        pickler.dump(value)
        objects = out.getvalue()

        tensors = pickle.dumps(len(self.tensors), protocol)
        for key, tensor in self.tensors.items():
            root = tensor.untyped_storage().data_ptr()
            self.storages[root] = tensor
            tensors += pickle.dumps((key, root, torch.FloatTensor), protocol)
            tensors += struct.pack("<i", tensor.dim()) + bytes(4)
            tensors += struct.pack(f"<{tensor.dim()}q", *tensor.size())
            tensors += struct.pack(f"<{tensor.dim()}q", *tensor.stride())
            tensors += struct.pack("<q", tensor.storage_offset())
        storages = pickle.dumps(len(self.storages), protocol)
        for root, tensor in self.storages.items():
            data = bytes(tensor.untyped_storage().tolist())
            storages += pickle.dumps((root, "cpu", STORAGES[tensor.dtype]), protocol)
            storages += struct.pack("<q", len(data) // tensor.element_size()) + data
        storages += pickle.dumps(self.views, protocol)
        system = pickle.dumps({"protocol_version": 1000, "little_endian": True}, protocol)
        return {"sys_info": system, "pickle": objects, "tensors": tensors, "storages": storages}


def tarred(members: dict[str, bytes], mtime: float = 1500000000.5, **options: Any) -> bytes:
    """An archive as ``tar.add`` made it: the time of a file is no integer, so pax headers come."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT, **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def old(value: object, protocol: int = 2) -> bytes:
    return tarred(Old().write(value, protocol))


def model_json(
    tensors: list[dict[str, Any]], records: dict[str, bytes], **main: Any
) -> dict[str, bytes]:
    """The records of a TorchScript archive of torch 1.0 (``ModelDef`` in ``torch.proto``)."""
    model = {
        "protoVersion": "2",
        "mainModule": {"torchscriptArena": {"key": "code/net.py"}, "name": "Net", "optimize": True} | main,
        "producerName": "pytorch", "producerVersion": "1.0", "tensors": tensors,
    }  # fmt: skip
    return {
        "net/version": b"1\n", "net/code/net.py": b"def forward(self, x):\n  return x\n",
        **{f"net/{name}": data for name, data in records.items()},
        "net/model.json": json.dumps(model).encode(),
    }  # fmt: skip


def zipped(records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return out.getvalue()
