"""The types that a checkpoint may hold beside tensors, each read as a record without any behaviour.

Training checkpoints carry their settings and logs: objects of YACS, mmcv, mmengine, NumPy and others. None of them is
needed, and none of those libraries is imported or run: a listed name becomes a plain dictionary or an empty record.
Any other name is refused by torch's weights_only reader, inside of these too.
"""

from collections import OrderedDict
from typing import Any


class Inert:
    """What a listed type is read as: takes any arguments and state, and keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class InertDict:
    """What a listed kind of dictionary is read as: an OrderedDict, the one that torch's reader fills and builds."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()


DICTIONARIES = {
    "yacs.config": ("CfgNode",),
    "fvcore.common.config": ("CfgNode",),
    "easydict": ("EasyDict",),
    "addict.addict": ("Dict",),
    "mmcv.utils.config": ("ConfigDict",),
    "mmengine.config.config": ("ConfigDict",),
    "collections": ("defaultdict",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
    "lightning.pytorch.utilities.parsing": ("AttributeDict",),
    "lightning_fabric.utilities.data": ("AttributeDict",),
    "lightning.fabric.utilities.data": ("AttributeDict",),
}

RECORDS = {
    # A log's methods are pickled as getattr(class, name), a table's default as its type: none of them is called.
    "builtins": ("getattr", "bool", "bytes", "dict", "float", "int", "list", "object", "str", "tuple"),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "types": ("SimpleNamespace",),
    "typing": ("Any", "Dict", "List", "Optional", "Tuple", "Union"),
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "mmcv.utils.config": ("Config",),
    "mmengine.config.config": ("Config",),
    "mmengine.logging.history_buffer": ("HistoryBuffer",),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.base": ("ContainerMetadata", "Metadata", "SCMode", "UnionNode"),
    "omegaconf.nodes": (
        "AnyNode",
        "BooleanNode",
        "BytesNode",
        "EnumNode",
        "FloatNode",
        "IntegerNode",
        "InterpolationResultNode",
        "PathNode",
        "StringNode",
    ),
    "pytorch_lightning.callbacks.model_checkpoint": ("ModelCheckpoint",),
    "pytorch_lightning.callbacks.early_stopping": ("EarlyStopping",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "numpy.dtypes": ("BoolDType", "Float32DType", "Float64DType", "Int32DType", "Int64DType"),
}

# torch's reader looks a type up by its module and name.
INERT = [
    type(name, (base,), {"__module__": module, "__qualname__": name})
    for base, listed in ((InertDict, DICTIONARIES), (Inert, RECORDS))
    for module, names in listed.items()
    for name in names
]
"""The stand-ins, one for each listed name."""
