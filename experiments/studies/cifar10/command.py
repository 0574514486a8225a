"""`a2mim reproduce cifar10`: every method on a small ViT and a small CNN, trained, measured, drawn, and on one page.

plan.py says by which commands; experiments/studies/steps.py runs them; joining.py puts an earlier study's networks
beside these; tables.py makes the tables of what is there, declared.py the test of the question, drawing.py figures and
page, with the answer in words (answers.py).
"""

from dataclasses import replace

from a2mim.errors import one_line
from experiments.studies.cifar10.earlier import other_images
from experiments.studies.cifar10.plan import Settings, steps
from experiments.studies.steps import (
    CAN_STOP,
    finished,
    pursue,
    refuse_absent,
    refuse_changed_weights,
    refuse_other_commands,
)


def run(settings: Settings) -> int:
    """Make what is missing, then everything that can be made of what is there."""
    from experiments.machine import pick_device
    from experiments.studies.cifar10.declared import collect_declared
    from experiments.studies.cifar10.drawing import draw_all
    from experiments.studies.cifar10.joining import (
        earlier_commands,
        earlier_study,
        join,
        keep_rows,
        refuse_foreign_results,
        refuse_unlike,
    )
    from experiments.studies.cifar10.tables import collect
    from experiments.studies.kept import write_commands, write_study

    made = steps(settings)
    refuse_foreign_results(settings)
    # Tables and figures are of every method that is there, also of those that are not asked for now.
    whole = steps(replace(settings, methods=()))
    refuse_other_commands([step for step in whole if step.words[0] in CAN_STOP], settings.out)
    refuse_changed_weights(whole, settings.out)

    def ready() -> None:
        pick_device(settings.device)
        fetch(settings)
        refuse_absent(made, (settings.train, settings.test))
        join(settings)

    def show() -> int:
        join(settings)
        refuse_unlike(settings)
        if note := other_images(settings):
            print(f"note: {note}")
        outs = {step.out for step in made}
        ran = [*made, *(step for step in whole if step.out not in outs and finished(step))]
        write_commands(settings.kept, ran, earlier_commands(settings))
        write_study(settings.kept, settings, made, earlier_study(settings))
        collect(settings)
        collect_declared(settings)
        keep_rows(settings)
        return draw_all(settings)

    return pursue(settings, made, show, ready)


def fetch(settings: Settings) -> None:
    """CIFAR-10 into --data-root, where it is asked for by name and not there.

    Raises ConnectionError where it cannot be fetched.
    """
    if "torch/cifar10" not in (settings.train, settings.test):
        return
    from torchvision.datasets import CIFAR10

    try:
        CIFAR10(settings.data_root, download=True)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"CIFAR-10 cannot be fetched into {settings.data_root} ({one_line(error)}): "
            "put it there, or name a .tar or a folder with --train and --test"
        ) from error
