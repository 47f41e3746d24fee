"""Looks through a TorchScript archive from a guest before PyTorch does. Runs nothing of it.

PyTorch's reader is made for archives that one trusts: it calls what argument defaults and
``__setstate__`` say while it loads, has operators that read and write files, and believes the
sizes that the pickles state for tensors, also where the bytes are fewer. So the archive is taken
apart and put together anew, of those records only that loading needs, after a look at each:

- records must be stored, not compressed, which is how PyTorch writes tensors; code may be
  compressed, within `MAX_CODE_BYTES`;
- pickles may contain what PyTorch writes for TorchScript: an opcode, global or tensor that is
  anything else is refused, and so are tensors that say more than their record holds;
- expressions nest less deep than would overflow the stack of PyTorch's parser;
- code must not contain the words for what reaches out of the model (files, output, remote calls,
  custom classes), wherever they stand, nor operators of other namespaces than PyTorch's core.

Exported programs (``.pt2``) from guests are refused: reading one evaluates Python.

Not a validator of TorchScript: types, schemas and graphs are PyTorch's to refuse.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final

from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["is_exported_program", "preflight"]

MAX_RECORDS: Final = 100_000
"""Records of an archive: one for each tensor and source file."""

MAX_CODE_BYTES: Final = 64 << 20
"""All code and pickles together, after decompression. Large models have a few MiB."""

_ITEM_BYTES: Final = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
# The second is where PyTorch writes it for models with newer operators, such as gelu.
_VERSIONS: Final = ("version", ".data/version")
_GLOBALS: Final = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch.jit._pickle build_boollist",
        "torch.jit._pickle build_doublelist",
        "torch.jit._pickle build_intlist",
        "torch.jit._pickle build_tensorlist",
        "torch.jit._pickle restore_type_tag",
    }
)
# What PyTorch's pickler writes, and no more: no calls by name, no other way to the memo.
_OPCODES: Final = frozenset(
    {
        "APPEND",
        "APPENDS",
        "BINFLOAT",
        "BINGET",
        "BININT",
        "BININT1",
        "BININT2",
        "BINPERSID",
        "BINPUT",
        "BINUNICODE",
        "BUILD",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "GLOBAL",
        "LONG1",
        "LONG_BINGET",
        "LONG_BINPUT",
        "MARK",
        "NEWFALSE",
        "NEWOBJ",
        "NEWTRUE",
        "NONE",
        "PROTO",
        "REDUCE",
        "SETITEM",
        "SETITEMS",
        "STOP",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
    }
)
_LITERALS: Final = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "GLOBAL"})
_PUTS: Final = frozenset({"BINPUT", "LONG_BINPUT"})
_GETS: Final = frozenset({"BINGET", "LONG_BINGET"})

MAX_CHAIN: Final = 1000
"""Words and operators of one expression, where each may be nested in the one before: PyTorch's
parser and compiler recurse, and end the process when their stack does."""

_TOKEN: Final = re.compile(rb"[A-Za-z_0-9.]+|[^\sA-Za-z_0-9.]")
_MAX_INDENT: Final = 400
_MAX_ELIF: Final = 500

_WORD: Final = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")
_REACHING_OUT: Final = frozenset(
    b"from_file save load print _print Print warn fork awaitable manual_seed classes "
    b"rpc_async rpc_sync rpc_remote __setstate__".split()
)
_OPS: Final = re.compile(rb"\bops\b")
_CORE_OPS: Final = re.compile(rb"\bops\.(?:aten|prim)\.")


def is_exported_program(model: bytes) -> bool:
    """Whether an archive has the records of ``torch.export.save`` instead of TorchScript's."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, UnicodeDecodeError):
        return False
    inner = {name.partition("/")[2] for name in names}
    return "archive_format" in inner or any(name.startswith("serialized_") for name in names)


def preflight(model: bytes) -> bytes:
    """Accepts a guest's TorchScript archive, or says why it is refused.

    Args:
        model: a zip archive as ``torch.jit.save`` writes it.

    Returns:
        An archive with the same model and nothing else, to be loaded in its place.

    Raises:
        WasiNnError: ``invalid_encoding`` for bytes that are no such archive,
            ``unsupported_operation`` for what must not come from a guest, ``too_large`` beyond
            the limits.
    """
    if not model.startswith(b"PK\x03\x04"):
        raise _not_torchscript("it does not start as a zip archive")
    if is_exported_program(model):
        raise _refused(
            "exported programs (.pt2), whose loading evaluates Python; "
            "save the model with torch.jit.save, or let the host's user name its file"
        )
    records = _records(model)
    for needed in ("data.pkl", "constants.pkl"):
        if needed not in records:
            raise _not_torchscript(f"the archive has no record {needed}")
    if not any(name in records for name in _VERSIONS):
        raise _not_torchscript("the archive has no record version")
    if records.get("byteorder", b"little") != b"little":
        raise _refused("big-endian tensors")
    for name, data in records.items():
        if name.endswith(".py"):
            _check_code(name, data)
    _check_pickle("data", records)
    _check_pickle("constants", records)
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(rebuilt, "w") as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), data)
    return rebuilt.getvalue()


def _records(model: bytes) -> dict[str, bytes]:
    """The records that loading needs, by their names within the archive's one directory."""
    records: dict[str, bytes] = {}
    code_left = MAX_CODE_BYTES
    tensors_left = len(model)  # stored as they are, so together no longer than the archive
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_RECORDS:
                raise _too_large(f"{len(entries)} records, over {MAX_RECORDS}")
            roots = {entry.filename.partition("/")[0] for entry in entries}
            if len(roots) != 1:
                raise _not_torchscript(f"expected one directory in the archive, got {len(roots)}")
            for entry in entries:
                name = entry.filename.partition("/")[2]
                is_tensor = name.startswith(("data/", "constants/"))
                if not (
                    is_tensor
                    or name in ("data.pkl", "constants.pkl", "byteorder", *_VERSIONS)
                    or (name.startswith("code/") and name.endswith(".py"))
                ):
                    continue
                if name in records:
                    raise _not_torchscript(f"record {_shown(name)} is there twice")
                if is_tensor:
                    if entry.compress_type != zipfile.ZIP_STORED:
                        raise _refused("compressed tensors")
                    tensors_left -= entry.file_size
                    if tensors_left < 0:
                        raise _not_torchscript("records that overlap")
                else:
                    code_left -= entry.file_size
                    if code_left < 0:
                        raise _too_large(f"over {MAX_CODE_BYTES} bytes of code and pickles")
                with archive.open(entry) as stream:  # gives no more than the size it states
                    records[name] = stream.read(entry.file_size)
                if len(records[name]) != entry.file_size:
                    raise _not_torchscript(f"record {_shown(name)} is cut off")
    except WasiNnError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,  # a way to compress, or a version of the format
        OSError,
        OverflowError,
        RuntimeError,  # an encrypted record
        ValueError,
    ) as error:
        raise _not_torchscript(f"{error}") from error
    return records


def _check_code(name: str, code: bytes) -> None:
    """Words, not syntax: a comment or a string is refused as well, and nothing can be hidden."""
    for word in _WORD.findall(code):
        if word in _REACHING_OUT:
            raise _refused(f"the word {word.decode()} in their code ({_shown(name)})")
    if len(_OPS.findall(code)) != len(_CORE_OPS.findall(code)):
        raise _refused(f"operators of other namespaces than aten and prim ({_shown(name)})")
    _check_nesting(name, code)


def _check_nesting(name: str, code: bytes) -> None:
    """Bounds how deep an expression can be, by counting what could nest. Knows no grammar.

    A comma begins anew within its brackets, a line does outside of all. On lines with quotes commas
    do not, and what lets a string or a line go on in the next is refused: so nothing is hidden.
    """
    if b'"""' in code or b"'''" in code or b"\\\n" in code or b"\r" in code:
        raise _refused(f"strings or statements of several lines ({_shown(name)})")
    if code.count(b"elif") > _MAX_ELIF:
        raise _too_large(f"over {_MAX_ELIF} elif ({_shown(name)})")
    counts = [0]  # for each open bracket, and outside
    total = 0
    for line in code.split(b"\n"):
        if len(line) - len(line.lstrip()) > _MAX_INDENT:
            raise _too_large(f"blocks are nested too deep ({_shown(name)})")
        is_plain = b'"' not in line and b"'" not in line
        if len(counts) == 1:
            total = counts[0] = 0
        for token in _TOKEN.findall(line):
            if token in b"([{":
                counts.append(0)
            elif token in b")]}" and len(counts) > 1:
                total -= counts.pop()
            elif token == b"," and is_plain:
                total -= counts[-1]
                counts[-1] = 0
                continue
            step = 1 + token.count(b".")
            counts[-1] += step
            total += step
            if total > MAX_CHAIN:
                raise _too_large(
                    f"an expression of more than {MAX_CHAIN} words and operators ({_shown(name)})"
                )


def _check_pickle(which: str, records: dict[str, bytes]) -> None:
    """Allows what TorchScript's pickles are made of; each tensor must be as long as its record.

    The five values that say where a tensor's bytes are stand between one MARK and one TUPLE, so
    that they are known without running the pickle.
    """
    memo: dict[int, object] = {}
    written: set[int] = set()
    since_mark: list[object] | None = None  # literals after the last MARK, while only those came
    storage: list[object] | None = None  # those of the TUPLE just read
    last: object = None  # the literal that a PUT would keep
    for name, argument in _opcodes(records[f"{which}.pkl"], which):
        if name in _PUTS:
            if argument in written:
                raise _refused("pickles that write to one place of the memo twice")
            assert isinstance(argument, int)
            if argument > len(records[f"{which}.pkl"]):  # PyTorch makes room for all before it
                raise _refused("pickles with gaps in the memo")
            written.add(argument)
            if last is not None:
                memo[argument] = last
            continue
        if name == "BINPERSID":
            _check_storage(which, storage, records)
        literal = None
        if name in _LITERALS:
            literal = argument
            if name == "GLOBAL":
                _check_global(str(argument))
        elif name in _GETS:
            assert isinstance(argument, int)
            if argument not in written:
                raise _not_torchscript("a pickle reads what it did not write")
            literal = memo.get(argument)
        storage = since_mark if name == "TUPLE" else None
        if name == "MARK":
            since_mark = []
        elif literal is None:
            since_mark = None
        elif since_mark is not None:
            since_mark.append(literal)
        last = literal


def _opcodes(data: bytes, which: str) -> Iterator[tuple[str, object]]:
    try:
        for opcode, argument, _position in pickletools.genops(data):
            if opcode.name not in _OPCODES:
                raise _refused(f"pickles with {opcode.name}")
            yield opcode.name, argument
    except (ValueError, IndexError, OverflowError) as error:
        raise _not_torchscript(f"{which}.pkl: {error}") from error


def _check_global(name: str) -> None:
    is_own = name.startswith("__torch__") and "classes" not in re.split(r"[. ]", name)
    if not (is_own or name in _GLOBALS or name in _ITEM_BYTES):
        raise _refused(f"pickles that name {_shown(name)}")


def _check_storage(which: str, values: list[object] | None, records: dict[str, bytes]) -> None:
    if values is None or len(values) != 5:
        raise _refused("tensors that are described otherwise than PyTorch does")
    word, kind, key, _device, count = values
    item_bytes = _ITEM_BYTES.get(str(kind))
    if word != "storage" or not isinstance(key, str) or not isinstance(count, int):
        raise _refused("tensors that are described otherwise than PyTorch does")
    if item_bytes is None:
        raise _refused(f"tensors of {_shown(str(kind))}")
    record = records.get(f"{which}/{key}")
    if count < 0 or (record is None and count > 0):
        raise _not_torchscript(f"tensor {which}/{_shown(key)} has no record")
    if record is not None and count * item_bytes != len(record):
        raise _not_torchscript(
            f"tensor {which}/{_shown(key)} says {count * item_bytes} bytes, "
            f"its record has {len(record)}"
        )


def _shown(text: str) -> str:
    """A guest's text, fit for one line of a message."""
    return ascii(text[:80])


def _not_torchscript(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.INVALID_ENCODING, f"not a usable TorchScript archive: {reason}")


def _refused(what: str) -> WasiNnError:
    return WasiNnError(
        ErrorKind.UNSUPPORTED_OPERATION, f"PyTorch models from guests must not contain {what}"
    )


def _too_large(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.TOO_LARGE, f"TorchScript archive refused: {reason}")
