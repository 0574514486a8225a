"""Figures of a study are those of what is there."""

import pytest

from experiments import cli
from experiments.studies.pages import Shown, draw


def test_a_figure_of_what_is_no_more_there_goes(tmp_path, monkeypatch, capsys):
    for name in ("fig5.png", "fig5.pdf", "fig5.json", "fig5-16.png"):
        (tmp_path / name).touch()
    monkeypatch.setattr(cli, "main", lambda words: pytest.fail(str(words)))
    assert draw("fig5", [], tmp_path / "fig5") == 0 and draw("fig4", [], tmp_path / "nowhere" / "fig4") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fig5-16.png"]
    assert "fig5: nothing is finished that it could be drawn from" in capsys.readouterr().out


def test_a_figure_is_drawn_by_the_command_that_a_user_types(tmp_path, monkeypatch):
    typed = []
    monkeypatch.setattr(cli, "main", lambda words: typed.append(words) or 3)
    assert draw("fig5", [Shown(tmp_path / "a", "MAE", "ViT")], tmp_path / "fig5", grey=["MAE", "untrained"]) == 3
    names = ["--names", "MAE", "--panels", "ViT", "--grey", "MAE"]
    assert typed == [["figure", "fig5", str(tmp_path / "a"), *names, "--out", str(tmp_path / "fig5")]]
