"""The site: its reference is complete, its pictures are those of the code, and its links lead somewhere."""

import ast
import importlib
import inspect
import pkgutil
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

import acis_env
import agents
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
REFERENCE = sorted((ROOT / "docs" / "api").glob("*.md"))
ADAPTERS = "acis_env.adapters."


def documented():
    """The names in the reference, in order."""
    return [name for page in REFERENCE for name in re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE)]


def resolve(path):
    """The object of a dotted path."""
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def public_packages():
    """Our packages that say what is public."""
    for top in (acis_env, agents):
        for found in [top, *map(importlib.import_module, sorted(packages_below(top)))]:
            if hasattr(found, "__all__"):
                yield found


def packages_below(top):
    """Names of all packages inside of one."""
    return [found.name for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}.") if found.ispkg]


def arrows(number):
    """The pairs (importer, imported) of the page's flowchart of that number."""
    charts = re.findall(
        r"```mermaid\nflowchart TD\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL
    )
    return {tuple(line.strip().split(" --> ")) for line in charts[number].splitlines()}


def reachable(pairs):
    """All pairs that lead from one to the other along arrows."""
    found = set(pairs)
    while more := {(a, d) for a, b in found for c, d in found if b == c} - found:
        found |= more
    return found


def layers(contract):
    """The layers of a contract in setup.cfg, from the top, each a list of rooms."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup[f"importlinter:contract:{contract}"]["layers"].strip().splitlines()
    return [re.split(r"\s*[|:]\s*", line.strip()) for line in lines]


def imports(folder):
    """Names of all modules that the files of a package, or one file, import."""
    for path in [folder.with_suffix(".py")] if folder.with_suffix(".py").exists() else folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(prefix, rooms):
    """The pairs (importer, imported) of rooms, as the code has them."""
    folder = ROOT.joinpath(*prefix.split(".")[:-1])
    return {
        (room, other)
        for room in rooms
        for name in imports(folder / room)
        for other in rooms
        if other != room and f"{name}.".startswith(f"{prefix}{other}.")
    }


def test_every_public_name_is_in_the_reference_once():
    for name in documented():
        if name.startswith(ADAPTERS):
            pytest.importorskip({"sb3": "stable_baselines3"}.get(name.split(".")[2], name.split(".")[2]))
    found = [id(resolve(name)) for name in documented()]
    assert len(found) == len(set(found))
    public = {f"{package.__name__}.{name}" for package in public_packages() for name in package.__all__}
    assert {name for name in public if id(resolve(name)) not in found} == set()


def test_every_class_and_function_in_the_reference_says_what_it_is():
    for name in documented():
        if not name.startswith(ADAPTERS) and (inspect.isclass(resolve(name)) or inspect.isfunction(resolve(name))):
            assert inspect.getdoc(resolve(name)), name


@pytest.mark.parametrize(
    ("number", "contract", "prefix"), [(0, "packages", ""), (1, "environment", "acis_env."), (2, "agents", "agents.")]
)
def test_the_pictures_of_the_rooms_are_those_of_the_contracts_and_of_the_code(number, contract, prefix):
    found, rooms = arrows(number), [room for layer in layers(contract) for room in layer]
    level = {room: depth for depth, layer in enumerate(layers(contract)) for room in layer}
    assert {room for pair in found for room in pair} == set(rooms)
    assert all(level[above] < level[below] for above, below in found)
    real = imported_rooms(prefix, rooms)
    assert found <= real
    assert real <= reachable(found)


def test_every_page_begins_with_what_its_reader_can_do_afterwards():
    pages = [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "tutorials").glob("*.md"),
        *(page for page in (ROOT / "docs" / "results").glob("*.md") if page.name != "quickstart.md"),  # a table alone
        *REFERENCE,
        ROOT / "CONTRIBUTING.md",
    ]
    for page in pages:
        title, first = page.read_text().split("\n\n", 2)[:2]
        assert title.startswith("# "), page.name
        assert first.startswith("After this page you "), page.name


@pytest.mark.parametrize(
    ("source", "text", "repository", "expected"),
    [
        ("docs/a.md", "[`env.py`](../acis_env/env.py)", "", "`env.py`"),
        ("docs/a.md", "[the shell](../acis_env/env.py)", "", "the shell (`acis_env/env.py`)"),
        (
            "docs/a.md",
            "[`env.py`](../acis_env/env.py)",
            "https://x/y",
            "[`env.py`](https://x/y/blob/HEAD/acis_env/env.py)",
        ),
        ("docs/results/README.md", "[data](../data.md#labels)", "", "[data](../data.md#labels)"),
        ("docs/a.md", "[how](../CONTRIBUTING.md#add)", "", "[how](contributing.md#add)"),
        ("docs/results/README.md", "[how](../../CONTRIBUTING.md)", "", "[how](../contributing.md)"),
        ("CHANGELOG.md", "[page](docs/results/README.md#x)", "", "[page](results/README.md#x)"),
        ("docs/a.md", "![cars](images/cars.png)", "", "![cars](images/cars.png)"),
        ("docs/a.md", "[site](https://x/y) [here](#z)", "", "[site](https://x/y) [here](#z)"),
        ("docs/a.md", "```python\nf[1](../setup.cfg)\n```", "", "```python\nf[1](../setup.cfg)\n```"),
    ],
)
def test_links_that_leave_docs_lead_to_the_site_or_the_repository_or_become_text(source, text, repository, expected):
    assert load_script(ROOT / "docs" / "hooks.py").rewritten(text, source, ROOT, repository) == expected


def test_a_link_to_a_file_that_is_not_there_is_a_warning(caplog):
    load_script(ROOT / "docs" / "hooks.py").rewritten("[x](../acis_env/nowhere.py)", "docs/a.md", ROOT, "")
    assert "docs/a.md links to acis_env/nowhere.py, which is not there" in caplog.text


def test_the_comment_behind_a_field_is_what_the_reference_says_of_it():
    pytest.importorskip("griffe")
    comment = load_script(ROOT / "docs" / "field_comments.py").trailing_comment
    assert comment("    mask: Tensor  # [B, H, W] in [0, 1]") == "[B, H, W] in [0, 1]"
    assert comment('    name: str = "#"  # noqa: F401') == ""
    assert comment("    size: int = 3") == ""


def test_a_site_with_a_page_outside_of_docs_and_a_link_to_a_source_file_is_built_without_a_warning(tmp_path):
    commands = pytest.importorskip("mkdocs.commands.build")
    config = importlib.import_module("mkdocs.config").load_config
    (tmp_path / "docs").mkdir()
    (tmp_path / "setup.cfg").write_text("[metadata]\nurl = https://example.org/us/repository\n")
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[what](../CHANGELOG.md#one) and [where](../setup.cfg)\n")
    (tmp_path / "docs" / "hooks.py").write_text((ROOT / "docs" / "hooks.py").read_text())
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## One\n\n[home](docs/index.md)\n")
    (tmp_path / "CONTRIBUTING.md").write_text("# How\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\nhooks: [docs/hooks.py]\nvalidation: {links: {anchors: warn}}\n")
    commands.build(config(str(tmp_path / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site")))
    home = (tmp_path / "site" / "index.html").read_text()
    assert 'href="changelog/#one"' in home
    assert 'href="https://example.org/us/repository/blob/HEAD/setup.cfg"' in home
    assert '<a href="../">home</a>' in (tmp_path / "site" / "changelog" / "index.html").read_text()
