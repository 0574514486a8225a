"""The types that a checkpoint may hold beside tensors, each read as an empty record.

Training checkpoints carry their settings and logs: objects of YACS, mmcv, mmengine, NumPy and others. None of them is
needed, and none of those libraries is imported or run. A name in this list becomes a record that keeps nothing of what
the file says; any other name is refused by torch's weights_only reader.
"""

from typing import Any


class Inert(dict):
    """What every listed type is read as: takes any arguments and state, keeps no state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass

    # A dict, so that dict-like types can be read, but items are of no use either.
    def __setitem__(self, key: Any, value: Any) -> None:
        pass


NAMES = {
    "yacs.config": ("CfgNode",),
    "fvcore.common.config": ("CfgNode",),
    "easydict": ("EasyDict",),
    "addict.addict": ("Dict",),
    "types": ("SimpleNamespace",),
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "mmcv.utils.config": ("Config", "ConfigDict"),
    "mmengine.config.config": ("Config", "ConfigDict"),
    "mmengine.logging.history_buffer": ("HistoryBuffer",),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.nodes": ("AnyNode", "BooleanNode", "FloatNode", "IntegerNode", "StringNode"),
    "typing": ("Any",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
    "numpy.dtypes": ("BoolDType", "Float32DType", "Float64DType", "Int32DType", "Int64DType"),
}
"""Modules, and what of them is read as an empty record."""

# torch's reader looks a type up by its module and name.
INERT = [
    type(name, (Inert,), {"__module__": module, "__qualname__": name})
    for module, names in NAMES.items()
    for name in names
]
