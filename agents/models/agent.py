"""A trained agent: acts in the environment, and segments any image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acis_env.autoencoder import MaskAutoencoder
from acis_env.configs import config_from_dict, is_count
from acis_env.context import ContextConfig, ContextNetwork
from acis_env.datasets.preprocessing import Preprocessing, parse_preprocessing
from acis_env.decoder import AutoencoderConfig
from acis_env.dynamics import EnvState
from acis_env.episode_source import EpisodeSource
from acis_env.observations import unpack
from acis_env.refinement import RefiningDecoder
from acis_env.surroundings import as_tensor, unaffected
from acis_env.weights import Pretrained, build
from agents.models.actor import Actor, ActorConfig
from agents.models.agent_card import AgentCard, member, read_card
from agents.models.agent_settings import AgentSettings
from agents.models.bundled import FILE, find_agent
from agents.models.checkpoints import check_format, load_checkpoint, save_checkpoint
from agents.models.composition import DEFAULT, Composition
from agents.models.outcome_critic import OutcomeCritic, OutcomeCriticConfig
from agents.models.outcomes import OutcomeChoice, OutcomeChoiceConfig
from agents.models.prediction import Prediction
from agents.models.ranking_critic import RankingCritic, RankingCriticConfig
from agents.models.scale import TrainingScale
from agents.models.segmentation import PictureScale, Segmentation, segment_pictures
from agents.models.selection import ActionSelection, SelectionConfig
from agents.models.sharing import NETWORKS, SHARED, find_shared, read_shared, upload, write_shared
from agents.models.visits import predict

FORMAT = "acis-agent-4"
"""Marks a file as an agent's, and the layout of what is in it."""


class Agent:
    """Context network, actor and frozen decoder: all that inference needs.

    Critics are not needed (section 5.3), unless they choose: among candidates in every state, or among episodes.
    """

    def __init__(
        self,
        actor: Actor,
        pretrained: Pretrained,
        max_steps: int = 21,
        composition: Composition = DEFAULT,
        action_scale: float = 3.0,
        selection: ActionSelection | None = None,
        refine: bool = False,
        preprocessing: str | Preprocessing = "squeeze",
        scale: TrainingScale | None = None,
        outcomes: OutcomeChoice | None = None,
    ) -> None:
        """Put an agent together.

        Args:
            actor: the policy.
            pretrained: the networks around the actions.
            max_steps: cap on the number of masks of `segment`.
            composition: rule by which masks become a label map.
            action_scale: latent standard deviations that an action of 1 stands for in the environment.
            selection: chooses the action; None takes the policy's mean.
            refine: whether masks are refined before they count (see `RefiningDecoder`).
            preprocessing: how pictures become those of the networks' size (see `parse_preprocessing`).
            scale: size of the instances that it was trained on, if it is known.
            outcomes: chooses among whole episodes and their lengths; None plays one, and its termination unit ends it.

        Raises:
            ValueError: there is no such preprocessing.
        """
        self.actor = actor.eval()
        self.pretrained = pretrained
        self.max_steps = max_steps
        self.composition = composition
        self.action_scale = action_scale
        self.selection = selection
        self.outcomes = outcomes
        self.refine = refine
        self.preprocessing = parse_preprocessing(preprocessing, pretrained.size)
        self.scale = scale
        self.folder: Path | None = None  # where it was loaded from, with what is known of it
        self._connect()

    def _connect(self) -> None:
        """Find the decoder of the networks, and the source of episodes in pictures."""
        self.decoder = self.pretrained.autoencoder.frozen_decoder(self.refine)
        self.source = EpisodeSource(self.pretrained.context_network, self.decoder)
        if self.selection is not None:
            self.selection.decoder = self.decoder

    @property
    def device(self) -> torch.device:
        """Where all weights are."""
        return self.actor.device

    def to(self, device: str | torch.device) -> Agent:
        """Move this agent to `device`; networks around the actions that others use stay where they are."""
        self.actor.to(device)
        self.pretrained = self.pretrained.to(device)
        if self.selection is not None:
            self.selection.critic.to(device)
        if self.outcomes is not None:
            self.outcomes.critic.to(device)
        self._connect()
        return self

    @unaffected
    @torch.no_grad()
    def predict(
        self,
        observation: Mapping[str, Tensor | NDArray[Any]] | Tensor | NDArray[Any],
        state: Tensor | None = None,
        episode_start: Tensor | NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], Tensor]:
        """Choose actions, by the protocol of Stable-Baselines3.

        Args:
            observation: what one environment or a batch of them shows, with `obs` "dict" or "stacked".
            state: what the last call returned; None begins new episodes everywhere.
            episode_start: `[B]`, True where a new episode begins.
            deterministic: take the mean, or the critic's choice; else sample from the policy.

        Returns:
            Actions `[l]` or `[B, l]` in [-1, 1], and the memory for the next call.

        Raises:
            ValueError: the observation is of another kind, or not of the agent's size.
        """
        context, mask = unpack(observation, self.device)
        if tuple(context.shape[-2:]) != self.pretrained.size:
            raise ValueError(
                f"observation must be [..., H, W] with (H, W) = {self.pretrained.size}, got {list(mask.shape)}"
            )
        single = context.dim() == 3
        if single:
            context, mask = context[None], mask[None]
        memory = self.actor.initial_memory(len(context)) if state is None else state
        if episode_start is not None:
            memory = memory * (~as_tensor(episode_start, device=self.device).bool()).view(-1, 1, 1)
        out = self.actor(self.actor.condition(context), mask, memory)
        latent = out.mean
        if not deterministic:
            latent = latent + torch.exp(0.5 * out.log_variance) * torch.randn_like(latent)
        if self.selection is not None or self.refine:
            conditioning = self.decoder.condition(context)
            if self.selection is not None and deterministic:
                latent = self.selection(self.selection.critic.condition(context), conditioning, mask, latent)
            if isinstance(self.decoder, RefiningDecoder):  # an environment need not know of it
                latent = self.decoder.refine(latent, conditioning)
        action = (latent / self.action_scale).clamp(-1, 1).numpy(force=True)
        return (action[0] if single else action), out.memory

    @overload
    def segment(
        self,
        image: NDArray[np.uint8],
        max_steps: int | None = None,
        soft: bool = False,
        scale: PictureScale | None = None,
        overlap: float | None = None,
    ) -> Segmentation: ...

    @overload
    def segment(
        self,
        image: Sequence[NDArray[np.uint8]],
        max_steps: int | None = None,
        soft: bool = False,
        scale: PictureScale | None = None,
        overlap: float | None = None,
    ) -> list[Segmentation]: ...

    @unaffected
    @torch.no_grad()
    def segment(
        self,
        image: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        max_steps: int | None = None,
        soft: bool = False,
        scale: PictureScale | None = None,
        overlap: float | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Take an image apart, or a list of them, whose windows are segmented together.

        Args:
            image: RGB, uint8 `[h, w, 3]` or `[3, h, w]`, of any size.
            max_steps: cap on the number of masks, in every window if there are several; None takes the agent's.
            soft: give masks as probabilities, in four times the memory, and not as where these reach the threshold.
            scale: cut windows of the networks' size out of the picture times this factor, or "auto", by which objects
                look as large as in training; None takes the agent's preprocessing.
            overlap: least share of a window that it has in common with its neighbour, in [0, 0.75]; None: a half where
                a scale is given, else the agent's own.

        Raises:
            ValueError: an image is not uint8 RGB, or too thin for the preprocessing; or the cap, scale or overlap is
                none.
        """
        cap = self._cap(max_steps)
        if isinstance(image, list | tuple):
            return segment_pictures(self, image, cap, soft, scale, overlap)
        return segment_pictures(self, [cast("NDArray[np.uint8]", image)], cap, soft, scale, overlap)[0]

    @unaffected
    def predict_masks(self, state: EnvState, max_steps: int | None = None, min_steps: int = 0) -> Prediction:
        """Run the deterministic policy on a batch until every termination unit has said stop, or choose among outcomes.

        Args:
            state: fresh episodes in `B` scenes, begun with a decoder as this agent's; truth is not looked at.
            max_steps: cap on the number of masks; None takes the agent's.
            min_steps: go on for so many masks anyway; `num_masks` still tells how many the agent would keep.

        Raises:
            ValueError: the cap is none.
        """
        cap = self._cap(max_steps)
        if self.outcomes is None:
            return predict(self.actor, self.decoder, state, self.selection, cap, min_steps)
        threshold = self.composition.threshold
        return self.outcomes.predict(self.actor, self.decoder, state, self.selection, cap, min_steps, threshold)

    def _cap(self, max_steps: int | None) -> int:
        """The cap on the number of masks that is asked for, or the agent's own."""
        if max_steps is not None and not is_count(max_steps, least=0):
            raise ValueError(f"max_steps must be a number of masks, at least 0, or None, got {max_steps!r}")
        return self.max_steps if max_steps is None else max_steps

    def save(self, path: str | os.PathLike[str], half: bool = False) -> None:
        """Write the whole agent to one file; an interruption leaves the old one.

        Args:
            path: the file.
            half: store weights as float16, in half of the space; they are float32 again when they are loaded.
        """
        content = self.state_dict()
        if half:
            for name in NETWORKS:
                content[name] = {key: x.half() if x.is_floating_point() else x for key, x in content[name].items()}
        save_checkpoint(content, Path(path), "agent")

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load` needs: configurations and weights."""
        context_network, autoencoder = self.pretrained.context_network, self.pretrained.autoencoder
        return {
            "format": FORMAT,
            "config": {
                "actor": asdict(self.actor.config),
                "context": asdict(context_network.config),
                "autoencoder": asdict(autoencoder.config),
                "max_steps": self.max_steps,
                "composition": asdict(self.composition),
                "action_scale": self.action_scale,
                "refine": self.refine,
                "preprocessing": self.preprocessing.name,
                "scale": None if self.scale is None else asdict(self.scale),
                "critic": None if self.selection is None else asdict(self.selection.critic.config),
                "selection": None if self.selection is None else asdict(self.selection.config),
                "outcome_critic": None if self.outcomes is None else asdict(self.outcomes.critic.config),
                "outcomes": None if self.outcomes is None else asdict(self.outcomes.config),
            },
            "outcome_critic": {} if self.outcomes is None else self.outcomes.critic.state_dict(),
            "critic": {} if self.selection is None else self.selection.critic.state_dict(),
            "actor": self.actor.state_dict(),
            "context": context_network.state_dict(),
            "autoencoder": autoencoder.state_dict(),
        }

    @classmethod
    @unaffected
    def load(cls, path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Agent:
        """Read an agent.

        Args:
            path: a file written by `save`, the folder of a run, or the name of an agent that comes with the package,
                such as "leaves-64" (`bundled_agents` has all).
            device: where its weights go.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or holds something else.
        """
        file = find_agent(path)
        agent = cls.from_state_dict(load_checkpoint(file), str(file)).to(device)
        agent.folder = file.parent if file.name == FILE else None
        return agent

    def save_pretrained(
        self, folder: str | os.PathLike[str], licence: str | None = None, limits: str | None = None
    ) -> None:
        """Write a folder to share: `agent.safetensors`, `card.json`, and a model card made of it, `README.md`.

        The card says what is known in the folder that the agent was loaded from: of a run, its commands as they were
        typed, its seed, and the scores of its evaluations. `from_pretrained` reads the folder.

        Args:
            folder: created if it is missing; files of these names are replaced.
            licence: identifier of the Hugging Face Hub, such as "cc-by-4.0"; None: that on the agent's card, if any.
            limits: what the agent is not for, in a sentence.

        Raises:
            ValueError: `licence` is no identifier, or the card is damaged.
        """
        self._share(Path(folder), Path(folder).resolve().name, licence, limits)

    def push_to_hub(
        self,
        repo_id: str,
        licence: str | None = None,
        limits: str | None = None,
        private: bool = False,
        token: str | None = None,
        message: str = "Upload an agent",
    ) -> str:
        """Upload what `save_pretrained` writes, and nothing else, to the Hugging Face Hub; returns the address.

        Args:
            repo_id: repository, "user/name"; created if there is none.
            licence: as of `save_pretrained`.
            limits: as of `save_pretrained`.
            private: create a repository that others cannot see.
            token: of an account; None: that of `hf auth login`.
            message: of the commit.

        Raises:
            OSError: the Hub refuses, or cannot be reached.
            ValueError: the library is not installed (`pip install 'acis-env[hub]'`), or as of `save_pretrained`.
        """
        with TemporaryDirectory() as folder:
            self._share(Path(folder), repo_id, licence, limits)
            return upload(Path(folder), repo_id, private, token, message)

    def _share(self, folder: Path, name: str, licence: str | None, limits: str | None) -> None:
        card = AgentCard() if self.folder is None else read_card(self.folder)
        card = replace(card, licence=licence or card.licence, limits=limits or card.limits)
        write_shared(folder, self.state_dict(), card, name)

    @classmethod
    @unaffected
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        revision: str | None = None,
        token: str | None = None,
    ) -> Agent:
        """Read an agent that somebody has shared: tensors and text, of which nothing is run.

        Args:
            source: a folder that `save_pretrained` wrote, or a repository of the Hugging Face Hub, "user/name".
            device: where its weights go.
            revision: branch, tag or commit of the repository; None: its main branch.
            token: of an account, for private repositories; None: that of `hf auth login`.

        Raises:
            FileNotFoundError: there is no such folder and no such repository, or it holds no agent.
            ValueError: the file is damaged or holds something else, or the library is not installed.
        """
        folder = find_shared(source, revision, token)
        agent = cls.from_state_dict(read_shared(folder), str(folder / SHARED)).to(device)
        agent.folder = folder
        return agent

    @classmethod
    @unaffected
    def from_state_dict(cls, state: Mapping[str, Any], source: str) -> Agent:
        """Rebuild an agent; `source` is named in errors."""
        check_format(state, FORMAT, source)
        config = member(state, "config", source)
        names = [field.name for field in fields(AgentSettings)]
        own = {name: value for name, value in config.items() if name in names}
        if "threshold" in config:  # a file from before there was more of a rule
            own.setdefault("composition", {"threshold": config["threshold"]})
        settings: AgentSettings = config_from_dict(AgentSettings, own, source)

        def read(config_class: type[Any], name: str) -> Any:
            return config_from_dict(config_class, member(config, name, source), source)

        def tensors(name: str) -> tuple[Mapping[str, Any], str]:
            return member(state, name, source), f"{source}: {name}"

        sizes = read(AutoencoderConfig, "autoencoder"), read(ContextConfig, "context"), read(ActorConfig, "actor")
        autoencoder = build(lambda: MaskAutoencoder(sizes[0]), *tensors("autoencoder"))
        context_network = build(lambda: ContextNetwork(sizes[1]), *tensors("context"))
        actor = build(lambda: Actor(sizes[0], sizes[2]), *tensors("actor"))
        selection = None
        if config.get("critic") is not None:
            critic_config = read(RankingCriticConfig, "critic")
            critic = build(lambda: RankingCritic(critic_config), *tensors("critic"))
            decoder = autoencoder.frozen_decoder(settings.refine)
            selection = ActionSelection(critic, decoder, read(SelectionConfig, "selection"))
        outcomes = None
        if config.get("outcome_critic") is not None:
            outcome_config = read(OutcomeCriticConfig, "outcome_critic")
            outcome_critic = build(lambda: OutcomeCritic(outcome_config), *tensors("outcome_critic"))
            outcomes = OutcomeChoice(outcome_critic, autoencoder.decoder, read(OutcomeChoiceConfig, "outcomes"))
        named = {name: getattr(settings, name) for name in names}
        return cls(actor, Pretrained(context_network, autoencoder), **named, selection=selection, outcomes=outcomes)
