"""`a2mim reproduce cifar10`: every method on a small ViT and a small CNN, trained, measured, drawn, and on one page.

plan.py says by which commands; experiments/studies/steps.py runs them; tables.py makes the tables of what is there,
declared.py the test of the question, drawing.py figures and page, with the answer in words (answers.py).
"""

from experiments.studies.cifar10.plan import Settings, steps
from experiments.studies.methods import METHODS
from experiments.studies.steps import NOT_YET, refuse_other_commands, report_plan, run_steps


def run(settings: Settings) -> int:
    """Make what is missing, then everything that can be made of what is there."""
    from experiments.machine import pick_device
    from experiments.studies.cifar10.declared import collect_declared
    from experiments.studies.cifar10.drawing import draw_all
    from experiments.studies.cifar10.tables import collect
    from experiments.studies.kept import write_commands, write_study
    from interactions.runs.lock import held

    check(settings)
    made = steps(settings)
    if settings.plan:
        print(report_plan(made))
        return 0
    pick_device(settings.device)  # before a folder is made
    with held(settings.out):
        refuse_other_commands(made, settings.out)
        fetch(settings)
        write_commands(settings.kept, made)
        code = run_steps(made, settings.budget, folder=settings.out)
        if code in (0, NOT_YET):
            write_study(settings.kept, settings, made)
            collect(settings)
            collect_declared(settings)
            code = draw_all(settings) or code
        return code


def check(settings: Settings) -> None:
    """Raises ValueError for a method that there is not."""
    for method in settings.methods:
        if method not in METHODS:
            raise ValueError(f"there is no method {method!r}: choose of {', '.join(METHODS)}")


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
            f"CIFAR-10 cannot be fetched into {settings.data_root} ({' '.join(str(error).split())}): "
            "put it there, or name a .tar or a folder with --train and --test"
        ) from error
