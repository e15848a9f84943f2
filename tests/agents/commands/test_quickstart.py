"""`acis quickstart`: what it leaves in its folder, and that it goes on where it was."""

from dataclasses import replace

from PIL import Image

from agents.training.presets import PRESETS


def test_the_quickstart_leaves_pictures_numbers_and_an_agent(mistake, acis, tmp_path, monkeypatch):
    preset = PRESETS["quick"]
    options = {"length": 8, "max_leaves": 4}
    env = replace(preset.env.having(scene_options=options), val_kwargs={"scene_options": options})
    stages = (replace(preset.stages[0], iterations=1), preset.stages[1])
    small = replace(preset, env=env, stages=stages, batch_size=2, eval_scenes=2)
    monkeypatch.setitem(PRESETS, "quick", small)
    printed = acis("quickstart", "--out", tmp_path, "--iterations", 1, "--test-scenes", 2)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"agent.pt", "evaluation.json", "episode.gif", "scenes.png", "learning_curve.png"} <= names
    assert "reconstruction" in printed
    with Image.open(tmp_path / "episode.gif") as film:
        assert film.n_frames > 2

    trained = (tmp_path / "agent.pt").read_bytes()
    table = printed[printed.index("random") : printed.index("SBD, Dice*")]
    assert table in acis("quickstart", "--out", tmp_path, "--iterations", 1, "--test-scenes", 2)  # only evaluates
    assert "test_scenes must be at most 200, got 201" in mistake("quickstart", "--out", tmp_path, "--test-scenes", 201)
    assert "other settings" in mistake("quickstart", "--out", tmp_path, "--iterations", 2, "--test-scenes", 2)
    assert (tmp_path / "agent.pt").read_bytes() == trained
