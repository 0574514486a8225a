"""What is looked at before a file is read: that it ends, and that it is no larger inside than outside."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from a2mim.checkpoints.errors import CheckpointError
from a2mim.errors import one_line

LONGEST_JSON = 10_000_000
"""Bytes."""


def check_file(path: Path, called: str = "") -> None:
    """Refuse a pipe, a socket, a device, a folder: reading could wait for ever, or never end."""
    if not path.is_file():
        raise CheckpointError(f"{called or path} is no file: copy what it gives into one")


def read_text(path: Path, longest: int = LONGEST_JSON) -> str:
    """A text of at most so many bytes."""
    check_file(path)
    if (size := path.stat().st_size) > longest:
        raise CheckpointError(f"{path} has {size:,} bytes, and is read up to {longest:,}: it is not what it is called")
    return path.read_text(encoding="utf-8")


def json_beside(path: Path, name: str) -> dict[str, Any]:
    """A configuration beside a file of Hugging Face or of timm's hub; empty without one.

    Raises CheckpointError for one that is damaged: what it would have said is not to be guessed.
    """
    beside = path.parent / name
    if not beside.is_file():
        return {}
    try:
        content = json.loads(read_text(beside))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{beside}, which may say what the network of '{path.name}' computes, cannot be read ({one_line(error)}): "
            "fetch it again, or take it away"
        ) from error
    return content if isinstance(content, dict) else {}


def is_zip(path: Path) -> bool:
    """Whether torch reads a file as a zip archive: by its first four bytes, and by nothing else."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def check_zip(path: Path) -> bool:
    """Whether an archive is one of TorchScript, as torch tells it: by its constants.

    Refuses one that would unpack to more than the file's own size: torch stores, it never compresses anything but the
    code of TorchScript, which nobody reads here.

    torch's reader and Python's look for the list of entries in different ways, and an archive may show each another
    list. So it must end as torch ends it: the list, its end record, and nothing behind, where both find the same.
    """
    size = path.stat().st_size
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        file.seek(max(0, size - END_RECORD.size - END_64.size))
        tail = file.read()
    if not ends_as_written(tail, size):
        raise CheckpointError(
            f"checkpoint '{path}' does not end as an archive that torch wrote: it is damaged or was changed, fetch it "
            "again or save model.state_dict() again"
        )
    inside = [entry.filename.partition("/")[2] for entry in entries]
    script = "constants.pkl" in inside
    if script:
        entries = [entry for entry, name in zip(entries, inside, strict=True) if not name.startswith("code/")]
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"checkpoint '{path}' has {size:,} bytes and would unpack to {unpacked:,}, torch writes nothing of that "
            "kind: save model.state_dict() again, best as .safetensors"
        )
    return script


# The records that end an archive (APPNOTE.TXT of the zip format, 4.3.14 to 4.3.16): that of large ones with its locator
# behind it, then the usual one.
END_64 = struct.Struct("<4sQ2H2L4Q 4sLQL")
END_RECORD = struct.Struct("<4s4H2LH")


def ends_as_written(tail: bytes, size: int) -> bool:
    """Whether the end records of an archive are its last bytes, the list of entries right in front of them.

    tail: the file's end, long enough for both records.
    """
    if len(tail) < END_RECORD.size:
        return False
    magic, *_, length, start, comment = END_RECORD.unpack(tail[-END_RECORD.size :])
    if magic != b"PK\x05\x06" or comment:
        return False
    large = tail[: -END_RECORD.size]
    if large[-20:-16] != b"PK\x06\x07":
        return start + length == size - END_RECORD.size
    if len(large) < END_64.size:
        return False
    magic, *_, length, start, _, _, record, _ = END_64.unpack(large[-END_64.size :])
    return magic == b"PK\x06\x06" and start + length == record == size - END_RECORD.size - END_64.size
