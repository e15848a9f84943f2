"""Forked workers go on after torch has used threads. Programs here have two threads, while tests have one."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import acis_env

ROOT = Path(acis_env.__file__).parents[1]

BEGIN = """
import os, threading, torch, gymnasium as gym, acis_env
torch.set_num_threads(2)
LEAVES = {"id": "ACIS/Leaves-v0", "obs": "coarse"}
env = gym.make_vec(**LEAVES, num_envs=8)
env.reset(seed=0)
env.step(env.action_space.sample())
"""
WORKERS = """
workers = gym.make_vec(**LEAVES, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "fork"})
workers.reset(seed=0)
for _ in range(12):
    workers.step(workers.action_space.sample())
workers.close()
print("done", torch.get_num_threads())
"""
THREAD = """
if (child := os.fork()) == 0:
    def play():
        env.reset(seed=0)
        env.step(env.action_space.sample())
    thread = threading.Thread(target=play)
    thread.start()
    thread.join()
    play()
    os._exit(7)
print("done", torch.get_num_threads() if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 else "without a child")
"""

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks")


def run(program):
    """What `program` prints, with two threads; everything it has started is killed if it hangs."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the program hangs")
    assert process.returncode == 0, errors
    return printed.split()


def test_a_forked_process_steps_after_its_parent_has_used_two_threads_which_the_parent_keeps():
    assert run(BEGIN + THREAD + WORKERS) == ["done", "2", "done", "2"]
