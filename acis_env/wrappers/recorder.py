"""Episodes as files to look at, from the first frame to the last."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
from gymnasium.vector import AutoresetMode, VectorEnv

from acis_env.arguments import parse_env_ids
from acis_env.files import replacing
from acis_env.rendering import Picture, write_gif
from acis_env.snapshot import Snapshot
from acis_env.vector_env import SegmentationVectorEnv
from acis_env.wrappers.base import Wrapper, reset_slots

FileFormat = Literal["gif", "mp4"]

CODECS = ("vp09", "mp4v")
"""Codecs for mp4, best first: browsers show the first, and a build of OpenCV may lack it."""


class RecordEpisodes(Wrapper):
    """Draws the episodes of a few slots and writes one file for each that ends.

    The file of the `n`-th episode of slot `i`, counted from 0, is `<name_prefix>_slot<i>_<n>.gif` with six digits for
    `n`. Its frames are the state after the reset and after each step; the last one shows the finished label map in
    every autoreset mode. An episode that a `reset` cuts short is neither written nor counted. Files appear whole or
    not at all; one of the same name is replaced.

    Attributes:
        episode_counts: slot to the number of its episodes that ended.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        folder: str | os.PathLike[str],
        every: int = 1,
        slots: Sequence[int] = (0,),
        fps: float = 2,
        name_prefix: str = "episode",
        format: FileFormat = "gif",
    ) -> None:
        """Wrap `env`.

        Args:
            env: a `SegmentationVectorEnv` with `render_mode="rgb_array"`, wrapped or not.
            folder: for the files; it is created with the first one.
            every: write the first of so many episodes of a slot; only what is written is drawn.
            slots: the slots to watch, in [0, num_envs).
            fps: frames per second, in (0, 50].
            name_prefix: what the names of the files begin with.
            format: "gif" or "mp4".

        Raises:
            TypeError: `env` is another environment.
            ValueError: it has no render mode, or an argument is out of range.
        """
        super().__init__(env)
        if not isinstance(env.unwrapped, SegmentationVectorEnv):
            raise TypeError(f"env must be a SegmentationVectorEnv, wrapped or not, got {type(env.unwrapped).__name__}")
        self._base: SegmentationVectorEnv = env.unwrapped
        self.folder, self.every, self.fps = Path(folder), every, fps
        self.slots = tuple(slots)
        self.name_prefix, self.format = name_prefix, format
        self._check()
        self.episode_counts = dict.fromkeys(self.slots, 0)
        self._frames: dict[int, list[Picture]] = {}  # frames by slot, where one is being recorded

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; recordings of the slots that begin anew are dropped."""
        slots = reset_slots(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._begin(slots)
        self._draw(slots)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environment, and write the episodes that ended.

        Raises:
            OSError: a file cannot be written.
        """
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self._draw(self.slots, before_reset=True)
        is_over = (terminated | truncated)[list(self.slots)].tolist()
        ended = [slot for slot, ends in zip(self.slots, is_over, strict=True) if ends]
        for slot in ended:
            if slot in self._frames:
                self._write(slot)
            self.episode_counts[slot] += 1
        self._begin(ended)
        if self._base.autoreset_mode is AutoresetMode.SAME_STEP:
            self._draw(ended)
        return observations, rewards, terminated, truncated, infos

    def set_state(self, snapshot: Snapshot, env_ids: Sequence[int] | None = None) -> None:
        """Put states back (see `SegmentationVectorEnv.set_state`); these slots are recorded from there on."""
        self.env.set_state(snapshot, env_ids)
        slots = parse_env_ids(env_ids, self.num_envs)
        self._begin(slots)
        self._draw([slot for slot, is_over in zip(slots, snapshot.is_over.tolist(), strict=True) if not is_over])

    def _begin(self, slots: Sequence[int]) -> None:
        """Drop what was drawn of `slots`, and record those whose turn it is."""
        for slot in set(slots) & set(self.slots):
            self._frames.pop(slot, None)
            if self.episode_counts[slot] % self.every == 0:
                self._frames[slot] = []

    def _draw(self, slots: Sequence[int], before_reset: bool = False) -> None:
        """Add a frame to those of `slots` that are being recorded."""
        slots = [slot for slot in slots if slot in self._frames]
        frames = self._base.render(slots, before_reset=before_reset)
        for slot, frame in zip(slots, frames or (), strict=True):
            self._frames[slot].append(frame)

    def _write(self, slot: int) -> None:
        path = self.folder / f"{self.name_prefix}_slot{slot}_{self.episode_counts[slot]:06d}.{self.format}"
        write = write_gif if self.format == "gif" else write_mp4
        write(path, self._frames[slot], self.fps)

    def _check(self) -> None:
        is_slot = [isinstance(slot, int) and 0 <= slot < self.num_envs for slot in self.slots]
        is_well_chosen = all(is_slot) and len(set(self.slots)) == len(self.slots) > 0
        checks = (
            ("env.render_mode", self.render_mode, self.render_mode == "rgb_array", '"rgb_array"'),
            ("every", self.every, self.every >= 1, "at least 1"),
            ("slots", self.slots, is_well_chosen, f"different ints in [0, {self.num_envs})"),
            ("fps", self.fps, 0 < self.fps <= 50, "in (0, 50]"),
            ("format", self.format, self.format in get_args(FileFormat), f"one of {get_args(FileFormat)}"),
        )
        for name, value, holds, expected in checks:
            if not holds:
                raise ValueError(f"{name} must be {expected}, got {value!r}")


def write_mp4(path: str | os.PathLike[str], frames: Sequence[Picture], fps: float = 2.0) -> None:
    """Write frames `[H, W, 3]` uint8, all of one size with even `H` and `W`, as an MP4 without sound.

    Folder and file are treated as by `acis_env.rendering.write_png`.

    Raises:
        OSError: OpenCV lacks a codec, or the frames could not be written.
    """
    with replacing(path) as unfinished:
        # OpenCV tells the container by the ending of the name.
        video = unfinished.with_name(f"{unfinished.name}.mp4")
        try:
            _encode(video, frames, fps)
            video.replace(unfinished)
        finally:
            video.unlink(missing_ok=True)


def _encode(path: Path, frames: Sequence[Picture], fps: float) -> None:
    height, width = frames[0].shape[:2]
    for codec in CODECS:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
        if writer.isOpened():
            break
    else:
        raise OSError(f'OpenCV can write none of the MP4 codecs {CODECS} here; format="gif" needs none')
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    if not path.exists() or path.stat().st_size == 0:
        raise OSError(f"OpenCV could not write {path}")
