"""What is done to runs and files, and how it ended."""

import os
import resource
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

from acis_env.weights import load_pretrained
from agents.models.checkpoints import load_checkpoint
from tests.reliability.compare import differences, same_runs
from tests.reliability.runs import Child, train


@dataclass
class Row:
    """A row of the table."""

    what: str
    times: int
    outcome: str
    holds: bool


def run_whole(configs, folder):
    """Run every configuration without interruption; folders and seconds by kind."""
    whole = {}
    for kind, config in configs.items():
        status, seconds = Child(train, config, folder / kind).wait()
        assert status == 0, f"the uninterrupted run of {kind} failed"
        whole[kind] = (folder / kind, seconds)
    return whole


def kill_runs(configs, whole, folder, number, random):
    """Kill runs at random moments, up to four times each, let them end, and compare them with those in one piece."""
    counts = {kind: [0, 0, 0] for kind in configs}  # kills, runs, equal runs
    unfinished = 0
    for attempt, kind in enumerate(cycle(configs)):
        if attempt >= len(configs) and sum(kills for kills, _, _ in counts.values()) >= number:
            break
        run, count = folder / f"killed-{attempt}", counts[kind]
        for _ in range(4):
            status = Child(train, configs[kind], run).kill_after(random.uniform(0, whole[kind][1]))
            assert status in (0, -signal.SIGKILL), f"{run}: ended with {status}"
            count[0] += status != 0
            unfinished += bool(list(run.glob(".*.tmp")))
        status, _ = Child(train, configs[kind], run).wait()
        count[1] += 1
        count[2] += status == 0 and same_runs(whole[kind][0], run) and not list(run.glob(".*.tmp"))
        shutil.rmtree(run)
    rows = [
        Row(f"SIGKILL, {kind}", kills, f"{equal} of {runs} runs end in the same bits", equal == runs)
        for kind, (kills, runs, equal) in counts.items()
    ]
    rows[-1].outcome += f"; {unfinished} kills of all left a file half written, none of which is left in the end"
    return rows


def flip_bits(whole, weights, folder, number, random):
    """Flip one bit at a time in a copy of every kind of file that is read back."""
    run = next(iter(whole.values()))[0]

    def read_weights(path):
        pretrained = load_pretrained(path)
        parts = (pretrained.context_network, pretrained.autoencoder)
        return [(str(part.config), dict(part.state_dict())) for part in parts]

    kinds = {
        "a checkpoint": (run / "checkpoint.pt", load_checkpoint),
        "an agent": (run / "agent.pt", load_checkpoint),
        "weights and their JSON": (weights, read_weights),
    }
    rows = []
    for what, (source, read) in kinds.items():
        expected, noticed, harmless = read(source), 0, 0
        for _ in range(number):
            copy = folder / f"flipped-{source.name}"
            if source.is_dir():
                shutil.copytree(source, copy, dirs_exist_ok=True)
            else:
                shutil.copy(source, copy)
            flip(random.choice(sorted(copy.iterdir())) if copy.is_dir() else copy, random)
            try:
                harmless += differences(expected, read(copy)) == []
            except ValueError as error:
                noticed += str(copy) in str(error) and "\n" not in str(error)
        outcome = f"{noticed} noticed, {harmless} harmless to the bit, {number - noticed - harmless} unnoticed"
        rows.append(Row(f"one bit flipped in {what}", number, outcome, noticed + harmless == number))
    return rows


def fall_back(configs, whole, folder, number, random):
    """Flip one bit in the last checkpoint of runs that were killed; they go on from the one before."""
    counts = [0, 0]
    for attempt, kind in zip(range(number), cycle(configs), strict=False):
        run = folder / f"fallen-{attempt}"
        while not (run / "checkpoint.previous.pt").exists():
            Child(train, configs[kind], run).kill_after(random.uniform(0.3, 1) * whole[kind][1])
        if (run / "checkpoint.pt").exists():
            flip(run / "checkpoint.pt", random)
        status, _ = Child(train, configs[kind], run, printed=folder / "printed").wait()
        counts[0] += "going on from" in (folder / "printed").read_text()
        counts[1] += status == 0 and same_runs(whole[kind][0], run)
    outcome = f"{counts[0]} go on from the one before and say so; {counts[1]} end in the same bits"
    return [Row("one bit flipped in the last checkpoint, then resumed", number, outcome, counts[1] == number)]


def flip(path, random):
    """Flip a random bit of a file."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def fill_disks(configs, whole, folder, number, random):
    """Let runs meet a full disk after so many bytes: a real one where a small disk can be mounted, else a limit."""
    counts, disks = [0, 0], set()
    for attempt, kind in zip(range(number), cycle(configs), strict=False):
        with small_disk(folder / f"disk-{attempt}") as (disk, is_real):
            disks.add("a tmpfs" if is_real else "a limit on the size of files")
            sizes = [path.stat().st_size for path in whole[kind][0].iterdir()]
            most = sum(sizes) if is_real else max(sizes)  # with so little room no run can end
            run, room, printed = disk / "run", random.randrange(1, most), folder / "printed"
            train_in = train_on_full_disk if is_real else train_with_limit
            status, _ = Child(train_in, configs[kind], run, room, printed=printed).wait()
            lines = [line for line in printed.read_text().splitlines() if line.startswith("acis: ")]
            is_clean = status == 1 and "Traceback" not in printed.read_text()
            counts[0] += is_clean and len(lines) == 1 and str(disk) in lines[0]
            (disk / "ballast").unlink(missing_ok=True)
            status, _ = Child(train, configs[kind], run).wait()
            counts[1] += status == 0 and same_runs(whole[kind][0], run)
    outcome = f"{counts[0]} end in one line that names the file; {counts[1]} are resumed to the same bits"
    return [
        Row(
            f"disk full after a random number of bytes ({', '.join(disks)})",
            number,
            outcome,
            counts == [number, number],
        )
    ]


DISK_SIZE = 2**24


@contextmanager
def small_disk(folder):
    """A disk of `DISK_SIZE` bytes, or just a folder where nothing can be mounted; and which of the two."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(folder)]
    is_real = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder, is_real
    finally:
        if is_real:
            subprocess.run(["umount", str(folder)], check=True)


def train_on_full_disk(config, run, room):
    """Train where only `room` bytes are left, as a command does."""
    (run.parent / "ballast").write_bytes(bytes(max(DISK_SIZE - room, 0)))
    as_command(train, config, run)


def train_with_limit(config, run, room):
    """Train where no file may be larger than `room` bytes, as a command does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    as_command(train, config, run)


def as_command(function, *arguments):
    """Call `function`; errors of the system end it as they end `acis`."""
    try:
        function(*arguments)
    except OSError as error:
        raise SystemExit(f"acis: {error}") from None
