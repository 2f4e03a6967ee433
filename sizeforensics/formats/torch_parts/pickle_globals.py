"""Which classes and functions that a pickle refers to deserve a warning.

Reading a file here never imports or calls any of them; the warning is for the reader who is about
to open the same file with something that does. Model classes of other packages are normal in whole
pickled modules, so what is named here is what can run code, reach files or the network.
"""

from __future__ import annotations

from sizeforensics.escape import one_line
from sizeforensics.formats.encodings.pickle_values import Pickle

_MODULES = frozenset({
    "aifc", "asyncio", "atexit", "bdb", "builtins", "cProfile", "code", "codeop",
    "commands", "ctypes", "dill", "distutils", "ensurepip", "fcntl", "ftplib", "getpass", "http",
    "httplib", "idlelib", "imaplib", "imp", "importlib", "inspect", "io", "joblib", "linecache",
    "marshal", "mmap", "multiprocessing", "nt", "ntpath", "operator", "os", "pdb", "pickle",
    "pickletools", "pip", "pkgutil", "popen2", "poplib", "posix", "posixpath",
    "pty", "pydoc", "requests", "runpy", "setuptools", "shelve", "shutil",
    "signal", "smtplib", "socket", "sqlite3", "ssl", "subprocess", "sys", "sysconfig",
    "tempfile", "timeit", "types", "urllib", "urllib2", "uuid",
    "venv", "webbrowser", "winreg", "xmlrpc", "zipimport",
})  # fmt: skip
"""Top-level modules of which everything is named in a warning, except ``_HARMLESS``."""

_HARMLESS = frozenset({
    *(f"builtins.{name}" for name in (
        "ArithmeticError", "Ellipsis", "Exception", "KeyError", "NotImplemented", "ValueError",
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
        "object", "range", "set", "slice", "str", "tuple", "type", "max", "min", "sum", "abs",
        "len", "print", "round", "sorted", "zip", "enumerate", "property",
    )),
    "operator.itemgetter", "io.BytesIO", "io.StringIO", "types.SimpleNamespace",
    "types.MethodType", "inspect.Signature", "inspect.Parameter",
    "pip._vendor.packaging.version.Version", "operator.add", "operator.mul",
})  # fmt: skip

_FUNCTIONS = frozenset({
    "_io.FileIO", "_io.open", "_io.open_code", "_pickle.load", "_pickle.loads", "functools.reduce",
    "numpy.load", "numpy.testing._private.utils.runstring", "pandas.io.pickle.read_pickle",
    "pandas.read_pickle", "torch.hub.load", "torch.jit.load", "torch.load",
    "torch.ops.load_library", "torch.serialization.load", "torch.utils.collect_env.run",
    "yaml.load", "yaml.unsafe_load",
})  # fmt: skip
"""Functions of otherwise harmless modules that run code or read files."""

_PYTHON_2 = {"__builtin__": "builtins", "exceptions": "builtins"}


def suspicious(module: str, name: str) -> bool:
    """Whether a reference to ``module.name`` could do harm where a pickle is really loaded."""
    module = _PYTHON_2.get(module, module)
    path = f"{module}.{name}"
    if path in _HARMLESS:
        return False
    if path in _FUNCTIONS:
        return True
    # "os" as a module of its own, and reached through another: numpy.os.system, torch.sys.exit.
    parts = path.split(".", 32)
    return parts[0] in _MODULES or not _MODULES_WITHIN.isdisjoint(parts[1:-1])


def harmful(pickle: Pickle) -> list[str]:
    """What a pickle refers to that could do harm where it is loaded, or that it changes."""
    return [
        found.path for found in pickle.globals.values()
        if found.states or suspicious(found.module, found.name)
    ]  # fmt: skip


def shown(path: str) -> str:
    """The words of a warning about it."""
    return one_line(f"pickle refers to callable {path} (shown as data, never called)")


_MODULES_WITHIN = frozenset({"os", "sys", "subprocess", "shutil", "importlib", "ctypes", "builtins"})
