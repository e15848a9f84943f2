"""The programs in the documentation run, and its commands have the options that they are given."""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tyro

from acis_env.testing.trees import WRITERS
from acis_env.weights import BUNDLED
from agents import Stage, TrainConfig, Trainer
from agents.algorithms import BaselineConfig
from agents.commands.benchmark import Benchmark
from agents.commands.data import Convert, Data
from agents.commands.evaluate import Evaluate
from agents.commands.export import Export
from agents.commands.paper import Paper
from agents.commands.pretrain import Pretrain
from agents.commands.quickstart import Quickstart
from agents.commands.reproduce import Reproduce
from agents.commands.segment import Segment
from agents.commands.submit import Submit
from agents.commands.train import Train
from agents.commands.watch import Watch
from benchmarks.arguments import Arguments
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plugging_in.md"
LIBRARIES = {
    "Your own loop": "torch",
    "Gymnasium's vector wrappers": "torch",
    "Your own decoder and context": "torch",
    "Stable-Baselines3": "stable_baselines3",
    "TorchRL": "torchrl",
    "skrl": "skrl",
    "rsl_rl": "rsl_rl",
}
COMMANDS = {
    "benchmark": Benchmark,
    "data": Data,
    "evaluate": Evaluate,
    "export": Export,
    "paper": Paper,
    "pretrain": Pretrain,
    "quickstart": Quickstart,
    "reproduce": Reproduce,
    "segment": Segment,
    "submit": Submit,
    "train": Train,
    "watch": Watch,
}
LAUNCHERS = ("acis", ".venv/bin/acis", "agents.commands")
"""Words before the name of a command."""
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
WITH_COMMANDS = [page for page in PAGES if "```bash\n" in (ROOT / page).read_text()]
BY_THEIR_OWN_TESTS = {
    "README.md": "tests/test_examples.py",
    "CONTRIBUTING.md": "tests/test_contributing.py",
    "docs/export.md": "tests/agents/evaluation/test_onnx_export.py",
    "docs/faq.md": "tests/test_docs.py",
    "docs/plugging_in.md": "tests/test_docs.py",
    "docs/start.md": "tests/test_docs.py",
    "docs/training.md": "tests/test_docs.py",
    "docs/tutorials/own_data.md": "tests/test_docs.py",
    "docs/tutorials/sweep.md": "tests/test_docs.py",
}
"""Pages whose programs need or promise more, and where the test that runs them is."""
TUTORIALS = (page for page in PAGES if page.startswith("docs/tutorials/") and page not in BY_THEIR_OWN_TESTS)
IN_ONE_GO = ("docs/environment.md", "docs/data.md", *TUTORIALS)
"""Pages whose programs need nothing but what `prepare` makes, and run one after the other."""
NEEDED = {"docs/tutorials/minari.md": "minari"}
"""Pages whose programs need a library that is not always there."""
SHORTER = {
    "docs/tutorials/minari.md": {
        "EPISODES = 500": "EPISODES = 200",
        "updates=1000": "updates=500",
        "num_scenes=100": "num_scenes=20",
    }
}
"""Lengths of a page that a test cuts short; all other programs run as they stand."""
OTHER_COMMANDS = ("pip install ", "python3 -m venv ", "examples/bbbc038.sh ", "python -m tests.reliability")
"""Beginnings of lines in shell blocks that no test here reads: installation, a script that `test_examples` runs."""


def blocks(text, language):
    """The code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def programs(section):
    """The programs of a section of the page, in order."""
    return blocks(PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0], "python")


def run(found, source):
    """Run programs one after the other in one namespace, and return it."""
    assert found
    namespace = {"__name__": "program"}
    for program in found:
        exec(compile(program, source, "exec"), namespace)
    return namespace


def prepare(folder):
    """Put the files into `folder` that pages speak of: published data and pairs in small, and networks."""
    for name in ("bbbc038", "coco", "masks"):
        WRITERS[name](folder / "data" / name)
    Convert(folder / "data" / "masks", folder / "mine").run()
    for networks in ("runs/dogs", "weights/mine"):
        shutil.copytree(BUNDLED / "leaves-64", folder / networks)


def lines(page):
    """The lines of a page's shell blocks."""
    return [line for block in blocks((ROOT / page).read_text(), "bash") for line in block.splitlines()]


def commands(line):
    """The programs of ours in a line of a shell: what reads their arguments, and the arguments."""
    words = shlex.split(line.replace("$seed", "1").replace(";", " ; "), comments=True)
    words = words[: words.index(";", words.index("do"))] if "do" in words else words
    for before, word in enumerate(words):
        if word in LAUNCHERS:
            yield COMMANDS[words[before + 1]], words[before + 2 :]
        elif word == "benchmarks":
            yield Arguments, words[before + 1 :]
        elif word.startswith(("examples/", "docs/")) and word.endswith(".py"):
            yield load_script(ROOT / word).Args, words[before + 1 :]


@pytest.mark.parametrize("section", LIBRARIES)
def test_the_programs_of_a_section_run_one_after_the_other(section):
    pytest.importorskip(LIBRARIES[section])
    run(programs(section), f"{PAGE.name}: {section}")


def test_every_section_with_a_program_is_run():
    sections = re.findall(r"\n## (.*?)\n", PAGE.read_text())
    assert {section for section in sections if programs(section)} == set(LIBRARIES)


def test_the_programs_about_training_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(blocks((ROOT / "docs" / "training.md").read_text(), "python"), "training.md")


def test_the_programs_of_the_start_page_run_once_there_is_an_agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage = Stage("main", BaselineConfig(), iterations=1)
    Trainer(TrainConfig(stages=(stage,), batch_size=2, eval_scenes=1), Path("quickstart")).run()
    found = run(blocks((ROOT / "docs" / "start.md").read_text(), "python"), "start.md")
    assert found["observations"]["image"].shape == (8, 3, 64, 64)
    assert found["result"].label_map.shape == found["image"].shape[1:] == (64, 64)


def test_final_obs_of_the_faq_is_the_last_observation_of_every_episode_and_not_the_first_of_the_next():
    found = run(blocks((ROOT / "docs" / "faq.md").read_text(), "python"), "faq.md")
    assert found["ended"].all()
    masks = slice(3 * 16, 4 * 16)  # the plane of masks among the 13 of 4x4
    assert (found["returned"][:, masks] == 0).all()
    assert (found["last"][:, masks] > 0).any(dim=1).all()


@pytest.mark.parametrize("page", IN_ONE_GO)
def test_the_programs_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    if page in NEEDED:
        pytest.importorskip(NEEDED[page])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))  # what a page sets is put back, too
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    text = (ROOT / page).read_text()
    for length, shorter in SHORTER.get(page, {}).items():
        assert text.count(length) == 1
        text = text.replace(length, shorter)
    run(blocks(text, "python"), page)


def test_the_page_about_own_data_ends_with_an_agent_above_chance_and_masks_of_new_pictures(tmp_path, monkeypatch):
    coco_mask = pytest.importorskip("pycocotools.mask")
    monkeypatch.chdir(tmp_path)
    found = run(blocks((ROOT / "docs" / "tutorials" / "own_data.md").read_text(), "python"), "own_data.md")
    sbd = {name: row["mean"]["sbd"] for name, row in found["rows"].items()}
    assert sbd["agent"] > sbd["random actions"] + 0.1
    assert found["measured"].stats[1] > 0.1  # AP at an IoU of 0.5
    names = [f"{number:04}" for number in range(100, 106)]
    label_maps = {name: cv2.imread(f"label-maps/{name}_label.png", cv2.IMREAD_UNCHANGED) for name in names}
    assert {(labels.shape, labels.dtype.name) for labels in label_maps.values()} == {((64, 64), "uint16")}
    results = json.loads(Path("new-results.json").read_text())
    assert {result["image_id"] for result in results} == set(range(100, 106))
    for name in names:
        masks = [coco_mask.decode(result["segmentation"]) for result in results if result["image_id"] == int(name)]
        assert (np.any(masks, axis=0) == (label_maps[name] > 0)).all()
    assert all(0.5 <= result["score"] <= 1 for result in results)
    assert len(list(Path("scan-label-maps").glob("*_label.png"))) == 12


def test_the_page_about_sweeps_stops_trials_below_the_median_of_whole_ones_and_begins_with_the_preset(
    tmp_path, monkeypatch
):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    found = run(blocks((ROOT / "docs" / "tutorials" / "sweep.md").read_text(), "python"), "sweep.md")
    first, *others = found["study"].trials
    assert first.params == found["preset"]
    assert len(others) == 4
    whole = [first]
    for trial in others:
        middle = np.median([other.intermediate_values[4] for other in whole])
        is_stopped = len(whole) > 1 and trial.intermediate_values[4] < middle
        assert list(trial.intermediate_values) == ([4] if is_stopped else [4, 6])
        assert trial.state.name == ("PRUNED" if is_stopped else "COMPLETE")
        whole += [] if is_stopped else [trial]
    assert Path("runs/again/found-2/evaluation-test/evaluation.json").is_file()


def test_every_page_with_a_program_is_run():
    with_programs = {page for page in PAGES if "```python\n" in (ROOT / page).read_text()}
    assert with_programs == {*IN_ONE_GO, *BY_THEIR_OWN_TESTS}
    for page, test in BY_THEIR_OWN_TESTS.items():
        mentions = (ROOT / test).read_text().count(Path(page).name)
        assert mentions > (test == "tests/test_docs.py")  # in the table above, and where the page is read


def test_a_notebook_has_the_programs_of_its_page_in_order_and_links_to_the_same_files(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        "# Title\n\n![x](../x.png)\n\n```python\na = [len]\n\nb = a[0]('ab')\n```\n\n[y](https://y)\n```bash\nls\n```\n"
    )
    notebooks = load_script(ROOT / "docs" / "notebooks.py")
    notebooks.main(notebooks.Args(pages=(page,), out=tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "page.ipynb").read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert [(cell["cell_type"], cell["source"]) for cell in found["cells"]] == [
        ("markdown", "# Title\n\n![x](../x.png)"),
        ("code", "a = [len]\n\nb = a[0]('ab')"),
        ("markdown", "[y](https://y)\n```bash\nls\n```"),
    ]
    assert len({cell["id"] for cell in found["cells"]}) == 3


def test_every_tutorial_becomes_a_notebook_of_its_programs(tmp_path):
    notebooks = load_script(ROOT / "docs" / "notebooks.py")
    notebooks.main(notebooks.Args(out=tmp_path))
    pages = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    assert [path.stem for path in sorted(tmp_path.iterdir())] == [page.stem for page in pages] != []
    for page in pages:
        cells = json.loads((tmp_path / f"{page.stem}.ipynb").read_text())["cells"]
        programs = [cell["source"] + "\n" for cell in cells if cell["cell_type"] == "code"]
        assert programs == blocks(page.read_text(), "python")


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_have_the_options_that_they_are_given(page):
    if "examples/" in "".join(lines(page)):
        pytest.importorskip("stable_baselines3")
    for line in filter(None, lines(page)):
        found = list(commands(line))
        assert found or line.startswith(OTHER_COMMANDS), line
        for command, arguments in found:
            parsed = tyro.cli(command, args=arguments, config=(tyro.conf.CascadeSubcommandArgs,))
            if isinstance(parsed, Train):
                assert parsed.resume or parsed.resolved().stages
