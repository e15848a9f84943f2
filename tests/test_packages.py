"""The names of the two packages, which are imported when they are first used."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import acis_env
import agents


@pytest.mark.parametrize("package", [acis_env, agents])
def test_every_name_of_a_package_can_be_used_and_is_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


@pytest.mark.parametrize("package", [acis_env, agents])
def test_a_name_that_a_package_does_not_have_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Environment'"):
        package.Environment  # noqa: B018


def test_importing_the_environment_registers_its_ids_and_does_not_wait_for_torch():
    code = (
        "import sys, gymnasium, acis_env; print([n for n in gymnasium.registry if 'ACIS' in n], 'torch' in sys.modules)"
    )
    root = Path(acis_env.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['ACIS/Leaves-v0', 'ACIS/Cars-v0', 'ACIS/Scenes-v0'] False", done.stderr
    assert gym.spec("ACIS/Leaves-v0").vector_entry_point == "acis_env.vector_env:SegmentationVectorEnv"
