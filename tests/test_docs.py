"""The programs in the documentation run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "plugging_in.md"
LIBRARIES = {
    "Your own loop": "torch",
    "Your own decoder and context": "torch",
    "Stable-Baselines3": "stable_baselines3",
    "TorchRL": "torchrl",
    "skrl": "skrl",
    "rsl_rl": "rsl_rl",
}


def programs(section):
    """The programs of a section of the page, in order."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("section", LIBRARIES)
def test_the_programs_of_a_section_run_one_after_the_other(section):
    pytest.importorskip(LIBRARIES[section])
    found = programs(section)
    assert found
    namespace = {"__name__": "program"}
    for program in found:
        exec(compile(program, f"{PAGE.name}: {section}", "exec"), namespace)


def test_every_section_with_a_program_is_run():
    sections = re.findall(r"\n## (.*?)\n", PAGE.read_text())
    assert {section for section in sections if programs(section)} == set(LIBRARIES)
