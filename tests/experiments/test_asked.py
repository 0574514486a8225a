"""What is typed wins over a recipe and over a run's record, where it is the usual value, too."""

import pytest

from experiments.cli import start
from experiments.commands import finetune
from experiments.training import asked
from experiments.training.asked import resolved

USUAL = finetune.Settings()


def settings_of(line, capsys):
    """What a command line of finetune asks for; what it says where that is refused."""
    seen = []

    def run(given):
        seen.append(resolved(given, "finetune"))

    code = start(finetune.Settings, run, line.split(), "a2mim finetune", finetune.usual)
    return seen[0] if code == 0 else " ".join(capsys.readouterr().err.split())


@pytest.fixture
def recipe(tmp_path):
    """A recipe of two epochs, one of them warm-up."""
    path = tmp_path / "mine.yaml"
    path.write_text("model_args: [depth=2, num_heads=3]\nepochs: 2\nwarmup_epochs: 1.0\n")
    return path


def test_a_typed_usual_value_wins_over_a_recipe(recipe, capsys, tmp_path):
    usual = USUAL.optim
    plain = settings_of(f"--recipe {recipe} --data {tmp_path} --out x", capsys)
    assert (plain.optim.epochs, plain.optim.warmup_epochs, plain.out) == (2, 1.0, "x")
    words = f"--recipe {recipe} --data {tmp_path} --out x --epochs {usual.epochs} --warmup-epochs {usual.warmup_epochs}"
    typed = settings_of(words, capsys)
    assert (typed.optim.epochs, typed.optim.warmup_epochs) == (usual.epochs, usual.warmup_epochs)
    assert typed.filled is None and typed.recipe == str(recipe)


def test_a_recipe_of_ones_own_is_run_once(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from experiments.commands.finetune import Settings\n"
        "def mine():\n"
        "    with Path(__file__).with_name('runs').open('a') as file:\n"
        "        file.write('.')\n"
        "    return Settings()\n"
    )
    typed = settings_of(f"--recipe {tmp_path}/mine.py:mine --data {tmp_path} --out x --epochs 3", capsys)
    assert typed.optim.epochs == 3 and (tmp_path / "runs").read_text() == "."


def test_typed_texts_replace_those_of_their_name_alone(recipe, capsys, tmp_path):
    line = f"--recipe {recipe} --data {tmp_path} --out x --model-args num_heads=2 embed_dim=64"
    assert settings_of(line, capsys).network.model_args == ("depth=2", "num_heads=2", "embed_dim=64")


def test_a_typed_usual_value_is_no_setting_of_another_run(recipe, capsys, tmp_path, monkeypatch):
    """A run of two epochs, not finished: the usual number of epochs, typed beside --resume, is another one."""
    stored = settings_of(f"--recipe {recipe} --data {tmp_path} --out x", capsys)
    run = {"command": "finetune", "finished": False, "settings": {}, "networks": {}}
    monkeypatch.setattr(asked, "stored_by", lambda given, command: (stored, run))
    assert settings_of(f"--resume {tmp_path} --data {tmp_path}", capsys).optim.epochs == 2
    said = settings_of(f"--resume {tmp_path} --data {tmp_path} --epochs {USUAL.optim.epochs}", capsys)
    assert "goes on with its own settings only" in said and f"{USUAL.optim.epochs}" in said


def test_a_recipe_that_is_not_there_is_one_sentence(capsys):
    assert "there is no nowhere in experiments/recipes" in settings_of("--recipe nowhere:none --out x", capsys)
