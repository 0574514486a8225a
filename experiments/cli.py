"""The `a2mim` command.

A subcommand is one module with two names:

    @dataclass(frozen=True)
    class Settings:
        '''One line that says what the command does.

        What it needs and writes.

        For example:
            a2mim profile resnet50 --data photos/ --out runs/resnet50
        '''
        model: tyro.conf.Positional[str]
        '''What the setting means (this string is its help).'''

    def run(settings: Settings) -> None: ...     # or -> int, an exit code of its own

and one line in COMMANDS. Settings is the whole interface: its docstrings are the help text, its fields the arguments,
dataclasses that it holds or inherits the groups of these (experiments/help.py), and the types of its fields say what
each may be (a2mim.bounds), which is looked at before `run` is called.
Where what was typed decides other settings' defaults, a third name, `usual(settings) -> Settings | None`, gives these,
and the line is read again with them. Heavy imports (torch, timm, pandas) belong inside `run`, so that `--help` answers
at once. A dict instead of a module name makes a group, such as `a2mim bench game`.

`run` says what is wrong by raising ValueError or OSError with one sentence that names the cause and the way out: the
user sees that sentence and exit code 2. A2MIM_DEBUG=1 shows the traceback instead.
"""

import _thread
import difflib
import importlib
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from a2mim.bounds import check
from a2mim.errors import one_line, out_of_memory
from experiments.help import filled, introduction, named_in, parse, terminal_width, with_typed
from experiments.memory import keep_freed_memory
from interactions.forecast import DryRun

COMMANDS: dict[str, str | dict[str, str]] = {
    "bench": {
        "coverage": "experiments.benchmarks.coverage",
        "curve": "experiments.benchmarks.curve",
        "dense": "experiments.benchmarks.dense",
        "drop": "experiments.benchmarks.drop",
        "errors": "experiments.benchmarks.errors",
        "estimators": "experiments.benchmarks.estimators",
        "game": "experiments.benchmarks.game",
        "methods": "experiments.benchmarks.methods",
        "regret": "experiments.benchmarks.regret",
        "train": "experiments.benchmarks.train",
        "units": "experiments.benchmarks.units",
    },
    "compare": "experiments.commands.compare",
    "convert": "experiments.commands.convert",
    "detect": "experiments.commands.detect",
    "figure": "experiments.commands.figure",
    "finetune": "experiments.commands.finetune",
    "inspect": "experiments.commands.inspect",
    "knn": "experiments.commands.knn",
    "linear": "experiments.commands.linear",
    "map": "experiments.commands.map",
    "occlusion": "experiments.commands.occlusion",
    "pretrain": "experiments.commands.pretrain",
    "profile": "experiments.commands.profile",
    "reconstruct": "experiments.commands.reconstruct",
    "report": "experiments.commands.report",
    "reproduce": {
        "cifar10": "experiments.studies.cifar10.command",
        "imagenet": "experiments.studies.imagenet",
        "lite0": "experiments.studies.lite0",
        "transfer": "experiments.studies.transfer",
    },
    "segment": "experiments.commands.segment",
    "spectrum": "experiments.commands.spectrum",
    "transfer": "experiments.commands.transfer",
    "version": "experiments.commands.version",
}

DESCRIPTION = "Measure how image patches interact in a vision model, train the models that are compared, and draw both."

S = TypeVar("S")

PACKAGES = ("a2mim", "experiments", "figures", "interactions")
"""Of this project, which lie side by side."""

BAD_INPUT = 2
INTERRUPTED = 130
UNREAD = 141
"""What a shell calls a program that was ended by a closed pipe."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code: 0 (or what `run` returned), 2 for bad input, 130 for Ctrl-C, 141
    where what reads the output has ended."""
    hear_interrupts()
    try:
        try:
            return dispatch(sys.argv[1:] if argv is None else list(argv))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:  # before the command had begun
        print("a2mim: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if not nobody_reads():
            raise
        # What is left to print has nowhere to go, and Python would complain of that when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def nobody_reads() -> bool:
    """Whether what reads the output has ended, as `head` does in `a2mim profile --help | head`."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)  # told are errors alone
    return bool(watch.poll(0))


def hear_interrupts() -> None:
    """Raise a Ctrl-C again that came while Python was in a callback, where it ignores exceptions: imports, of which a
    start has thousands, are full of them."""
    before = sys.unraisablehook
    if getattr(before, "hears_interrupts", False):
        return

    def hook(ignored: Any) -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            # From beside, and a little later: here it would be ignored once more.
            threading.Timer(0.05, interrupt).start()
        else:
            before(ignored)

    hook.hears_interrupts = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def interrupt() -> None:
    """Interrupt the main thread as Ctrl-C does."""
    if hasattr(signal, "pthread_kill") and (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, signal.SIGINT)  # a real signal ends waiting, too
    else:
        _thread.interrupt_main()


def dispatch(argv: Sequence[str]) -> int:
    """Find the subcommand and start it."""
    import_own_packages()
    command, arguments = split_command(argv, COMMANDS)
    prog = " ".join(["a2mim", *command])
    target = look_up(command, COMMANDS)
    if isinstance(target, Mapping):
        return help_or_complaint(prog, target, arguments)
    module = importlib.import_module(target)
    return start(module.Settings, module.run, arguments, prog, getattr(module, "usual", None))


def import_own_packages() -> None:
    """Import the project's packages from where this file lies, so that a figures.py or an a2mim.py in the user's folder
    is never taken for one of them, wherever that folder stands on the import path."""
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = PathFinder.find_spec(name, [str(root)])
        if name not in sys.modules and spec is not None and spec.loader is not None:
            sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])


def start(
    kind: type[S],
    run: Callable[[S], int | None],
    arguments: Sequence[str],
    prog: str,
    usual: Callable[[S], S | None] | None = None,
) -> int:
    """Read the settings from a command line, and run with them; returns the exit code, as `guarded` does.

    usual: the defaults that belong to what was typed, where they are others than those of `kind`.
    """
    if {"-h", "--help"} & set(arguments):
        print(introduction(kind, terminal_width()), end="\n\n")
    if empty := names_nothing(arguments):
        print(
            f"{prog}: {empty} is empty: give it a name, or leave it out (is a shell's variable not set?)",
            file=sys.stderr,
        )
        return BAD_INPUT

    def read(**default: Any) -> S:
        return with_typed(parse(kind, args=arguments, prog=prog, **default), named_in(arguments))

    settings = read()
    try:
        default = None if usual is None else usual(settings)
    except (ValueError, OSError) as error:
        return guarded(partial(refuse, error), settings, prog)
    return guarded(run, settings if default is None else read(default=default), prog)


def names_nothing(arguments: Sequence[str]) -> str:
    """Which of --out, --results and --joined is followed by an empty word, of which a path would be the folder that one
    is in; empty where none is."""
    places = ("--out", "--results", "--joined")
    apart = [option for option, word in pairwise(arguments) if option in places and not word.strip()]
    return next(iter([*apart, *(option for option in places if f"{option}=" in arguments)]), "")


def refuse(error: Exception, settings: Any) -> int:
    raise error


def guarded(run: Callable[[S], int | None], settings: S, prog: str) -> int:
    """Look at the settings, call `run` with them, and turn what the user can mend into one sentence and an exit code.

    Raises TypeError where `run` returns anything but an exit code or None: Python would print it and call it a failure.
    """
    keep_freed_memory()
    try:
        check(settings)
        with plain_warnings(prog):
            code = run(settings)
    except DryRun as said:
        close_bars()
        print(said)
        return 0
    except (ValueError, OSError) as error:
        unread = isinstance(error, BrokenPipeError) and nobody_reads()
        if unread or os.environ.get("A2MIM_DEBUG", "0") not in ("", "0"):
            raise
        close_bars()
        print(f"{prog}: {sentence(error)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        close_bars()
        print(f"{prog}: memory ran out: {sentence(error)}; use a smaller batch, image or network", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as interruption:
        close_bars()
        print(f"{prog}: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    if code is not None and type(code) is not int:
        raise TypeError(f"{prog} returned a {type(code).__name__}, it must return an exit code or None")
    return code or 0


@contextmanager
def plain_warnings(prog: str) -> Iterator[None]:
    """Warnings are sentences, too: the place in the source from which one came tells nothing to who typed a command."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{prog}: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def close_bars() -> None:
    """End the progress bars that an error left open, so that what is said next begins a line of its own."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def sentence(error: Exception) -> str:
    """The error's message on one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{where}"
    return one_line(error)


def split_command(argv: Sequence[str], commands: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Split `bench game --batch 8` into the words that name a command and its arguments."""
    level: Any = commands
    for n, word in enumerate(argv):
        if not isinstance(level, Mapping) or word not in level:
            return list(argv[:n]), list(argv[n:])
        level = level[word]
    return list(argv), []


def look_up(command: Sequence[str], commands: Mapping[str, Any]) -> Any:
    """The module name of a command, or the dict of a group."""
    target: Any = commands
    for word in command:
        target = target[word]
    return target


def help_or_complaint(prog: str, commands: Mapping[str, Any], arguments: Sequence[str]) -> int:
    """Answer a call that names no complete command: the overview for --help, else what is wrong with it."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(overview(prog, commands))
        return 0
    if not arguments:
        print(overview(prog, commands), file=sys.stderr)
        return BAD_INPUT
    near = difflib.get_close_matches(arguments[0], commands, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(commands)}"
    print(f"{prog}: no command '{arguments[0]}', {hint}", file=sys.stderr)
    return BAD_INPUT


def overview(prog: str, commands: Mapping[str, Any]) -> str:
    """The help page that lists each command with the first line of its help."""
    rows = "\n".join(f"  {name:12} {summary(target)}" for name, target in commands.items())
    parts = [f"usage: {prog} COMMAND [...]", DESCRIPTION, rows, f"{prog} COMMAND --help explains a command."]
    return "\n\n".join(filled(part, terminal_width()) for part in parts)


def summary(target: str | Mapping[str, Any]) -> str:
    """One line about a command (the first of its help) or a group (its members)."""
    if isinstance(target, Mapping):
        return f"one of {', '.join(target)}"
    return (importlib.import_module(target).Settings.__doc__ or "").strip().split("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
