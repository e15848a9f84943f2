"""The agents that `acis benchmark` knows by name. A new one is one line; what it does is in a file of its own."""

from __future__ import annotations

from pathlib import Path

from acis_env.configs import unknown_name
from agents.benchmark import sb3_ppo, sb3_td3
from agents.benchmark.contender import Contender
from agents.benchmark.folder import FolderAgent
from agents.benchmark.method import MethodAgent, PresetAgent
from agents.benchmark.references import Reference, random_actions, random_codes, reconstruction
from agents.benchmark.sb3 import SB3Agent
from agents.benchmark.yardstick import Yardstick
from agents.evaluation.classical import COMPONENTS, WATERSHED
from agents.experiments.methods import METHODS
from agents.models.bundled import BUNDLED, bundled_agents
from agents.training.presets import PRESETS

PRESET = "preset:"
"""Stands before the name of a preset of `acis train`."""

AGENTS: dict[str, Contender] = {
    "random-actions": Reference(
        "actions drawn uniformly from their space, in the environment with its default arguments, true count",
        random_actions,
        "true count",
    ),
    "random-codes": Reference("codes drawn from the decoder's prior, a random number of them", random_codes, "random"),
    "foreground-components": Yardstick(COMPONENTS),
    "watershed": Yardstick(WATERSHED),
    "sb3-ppo": SB3Agent(
        "PPO of Stable-Baselines3 on coarse observations",
        sb3_ppo.PPOSettings(),
        sb3_ppo.build_ppo,
        sb3_ppo.STEPS,
        sb3_ppo.NUM_ENVS,
        sb3_ppo.ENV,
    ),
    "sb3-td3": SB3Agent(
        "TD3 of Stable-Baselines3 with a critic that multiplies features of state and action",
        sb3_td3.TD3Settings(),
        sb3_td3.build_td3,
        sb3_td3.STEPS,
        sb3_td3.NUM_ENVS,
        sb3_td3.ENV,
    ),
    **{name: MethodAgent(method=name) for name in METHODS},
    "reconstruction": Reference(
        "the decoder's reconstruction of every true instance", reconstruction, "true count", "bound", is_seeded=False
    ),
}
"""Agents by name."""
LEADERBOARD = (
    "random-actions",
    "random-codes",
    "foreground-components",
    "watershed",
    "BL-Trunc",
    "BL-Trunc-Dice",
    "AC-Dice",
    "Candidate-AC",
    "Critic-Search",
    "Critic-Search-Outcomes",
    "sb3-ppo",
    "sb3-td3",
    "reconstruction",
)
"""Names of the agents that are compared if none are named."""


def find_agent(text: str, trust: bool = False) -> tuple[str, Contender]:
    """The name of a row, and the agent that `text` stands for.

    Args:
        text: a name in `AGENTS`; that of an agent that comes with the package, such as "leaves-64"; "preset:" and the
            name of a preset of `acis train`; or the folder of a run or of a policy, which may have a name before it, as
            in "mine=runs/one".
        trust: whether code in such a folder may run.

    Raises:
        ValueError: there is neither an agent nor a folder of that name.
    """
    if text in AGENTS:
        return text, AGENTS[text]
    if text.startswith(PRESET):
        preset = text.removeprefix(PRESET)
        if preset not in PRESETS:
            raise ValueError(f"agent {text!r}: {unknown_name(preset, PRESETS)}")
        return f"preset-{preset}", PresetAgent(preset=preset)
    name, _, place = text.rpartition("=")
    folder = Path(place)
    if text in bundled_agents() and not folder.is_dir():
        return text, FolderAgent(BUNDLED / text)
    if not folder.is_dir():
        known = [*AGENTS, *bundled_agents()]
        raise ValueError(f"agent {text!r}: expected a folder or a name, {unknown_name(text, known)}")
    name = name or folder.resolve().name
    if name in AGENTS or Path(name).name != name:
        raise ValueError(f"agent {text!r}: {name!r} must be a new name without slashes, as in mine={place}")
    return name, FolderAgent(folder.resolve(), trust)
