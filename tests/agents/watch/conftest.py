"""An agent whose critic chooses, and a plant whose leaves are known."""

import threading

import pytest
import torch

from agents.models.ranking_critic import RankingCritic, RankingCriticConfig
from agents.models.selection import ActionSelection, SelectionConfig


@pytest.fixture
def plant(leaves):
    """A drawn plant with its label map, at 32x32."""
    return max((leaves.dataset[i] for i in range(12)), key=lambda scene: scene.num_instances)


@pytest.fixture
def searching(agent):
    """The agent with an untrained critic that searches for its actions."""
    torch.manual_seed(1)
    critic = RankingCritic(RankingCriticConfig(hidden=(8,))).requires_grad_(False)
    agent.selection = ActionSelection(critic, agent.decoder, SelectionConfig(number=4, spreads=(0.5,)))
    return agent


@pytest.fixture
def serve():
    """A function that serves an agent and scenes in a thread of its own, and returns the socket and what answers."""
    server = pytest.importorskip("agents.watch.server")
    running = []

    def start(agent, scenes, **options):
        watching, listener = server.Watching(agent, "tiny", scenes, **options), server.listen(0)
        made = server.make_server(watching.app())
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((made, thread, listener))
        return listener, watching

    yield start
    for made, thread, listener in running:
        made.should_exit = True
        thread.join()
        listener.close()
