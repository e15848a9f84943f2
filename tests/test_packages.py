"""The names of the two packages, which are imported when they are first used."""

import os
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
    code = "import sys, gymnasium, acis_env; print(*sorted(gymnasium.registry), 'torch' in sys.modules)"
    root = Path(acis_env.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    *ids, has_torch = done.stdout.split()
    assert {"ACIS/Leaves-v0", "ACIS/Scenes-v0", "ACIS/BBBC038-v0", "ACIS/COCO-v0"} <= set(ids), done.stderr
    assert has_torch == "False"
    assert gym.spec("ACIS/Leaves-v0").vector_entry_point == "acis_env.vector_env:SegmentationVectorEnv"


def test_an_agent_segments_without_waiting_for_the_compiler_of_torch_or_the_statistics_of_scipy():
    code = """import sys, numpy as np
from agents import Agent
print(Agent.load("leaves-64").segment(np.zeros((64, 64, 3), np.uint8), max_steps=1).label_map.shape)
print({"torch._dynamo", "scipy.stats"} & {*sys.modules})"""
    root = Path(acis_env.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["(64, 64)", "set()"], done.stderr


def test_an_id_that_names_the_package_needs_no_import_of_it_and_neither_do_spawned_workers(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import gymnasium\n"
        "if __name__ == '__main__':\n"
        "    leaves = {'id': 'acis_env:ACIS/Leaves-v0', 'obs': 'coarse'}\n"
        "    workers = {'vectorization_mode': 'async', 'vector_kwargs': {'context': 'spawn'}}\n"
        "    for options in ({}, workers):\n"
        "        envs = gymnasium.make_vec(**leaves, **options, num_envs=1)\n"
        "        print(type(envs.unwrapped).__name__, *envs.reset(seed=0)[0].shape)\n"
        "        envs.close()\n"
        "    import acis_env\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(acis_env.__file__).parents[1])}
    command = [sys.executable, "-W", "error::UserWarning", program]  # Gymnasium warns of ids that are registered twice
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines() == ["SegmentationVectorEnv 1 208", "AsyncVectorEnv 1 208"], done.stderr
    assert done.returncode == 0, done.stderr
