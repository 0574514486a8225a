"""What an error of a library means, and what it says."""

from a2mim.plain import printable

NO_MEMORY = ("can't allocate memory", "out of memory")
"""Words of torch for main memory, and for devices whose errors have no name of their own."""


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, or torch on any device, found no memory. (torch is not imported for that.)"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def one_line(error: BaseException) -> str:
    """What an error says, on one line that a terminal may show; its kind where it says nothing."""
    return printable(" ".join(str(error).split())) or type(error).__name__
