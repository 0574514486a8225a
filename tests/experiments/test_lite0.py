"""The commands of `a2mim reproduce lite0`."""

from experiments.studies.lite0 import Settings, steps


def test_the_speed_is_that_of_the_profiles_alone():
    usual, compiled = steps(Settings(data="photographs")), steps(Settings(data="photographs", speed="compiled"))
    assert not any("--speed" in step.words for step in usual)
    for plain, fast in zip(usual, compiled, strict=True):
        more = [word for word in fast.words if word not in plain.words]
        assert more == (["--speed", "compiled"] if plain.words[0] == "profile" else [])
