"""What is true of the processes on the cards, told by the processes themselves.

Each workload container carries its pod's UID and names, by the downward API, in its environment,
and so does each of its processes. That is no way that the agent looks: it reads cgroups.

Where there is no GPU, the same look makes the card: the fake driver lists these processes.
"""

import json
import os
import pathlib
import threading
import time
from dataclasses import dataclass, field

# A process of these names holds a context on each card that its container sees.
NAMES = {b"gpu-work", b"slicewatch-tena"}
MIB = 1 << 20
# How long a process that ended stays known.
KEPT = 600


@dataclass
class Process:
    pid: int
    start: int
    namespace: str
    pod: str
    pod_uid: str
    container: str
    cards: tuple
    mib: int
    first: float
    last: float
    ended: float | None = None
    # Reasons that the agent gave while it did not know whose it is.
    unresolved: set = field(default_factory=set)
    resolved: bool = False

    @property
    def owner(self):
        return self.namespace, self.pod, self.container

    def lived(self):
        return (self.ended or time.time()) - self.first


def read_process(pid, now):
    """The process, where it is one of a workload; None where it is not, or has ended."""
    folder = pathlib.Path("/proc") / str(pid)
    try:
        if (folder / "comm").read_bytes().strip() not in NAMES:
            return None
        pairs = (folder / "environ").read_bytes().split(b"\0")
        environment = dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)
        words = (folder / "cmdline").read_bytes().split(b"\0")
        start = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, ValueError, IndexError):
        return None
    if "POD_UID" not in environment:
        return None
    cards = tuple(environment.get("NVIDIA_VISIBLE_DEVICES", "").split(","))
    mib = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return Process(
        pid, start, environment["POD_NAMESPACE"], environment["POD_NAME"], environment["POD_UID"],
        environment["CONTAINER_NAME"], tuple(filter(None, cards)), mib, now, now,
    )


class Truth(threading.Thread):
    """Looks at all processes twenty times a second; the thread of both truth and fake card."""

    PERIOD = 0.05

    def __init__(self, card=None):
        super().__init__(daemon=True)
        self.lock = threading.Lock()
        self.alive, self.ended = {}, []
        self._others, self._card, self._done = {}, card, threading.Event()

    def run(self):
        while not self._done.wait(self.PERIOD):
            self._look(time.time())
            if self._card:
                with self.lock:
                    processes = list(self.alive.values())
                self._card.show(processes, time.time())

    def close(self):
        self._done.set()
        self.join()

    def _look(self, now):
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        seen = set(pids)
        with self.lock:
            for pid in [pid for pid in self.alive if pid not in seen]:
                self._end(pid, now)
        for pid in pids:
            known = self.alive.get(pid)
            # A process keeps its name but when it executes another program, early in its life.
            if known is None and self._others.get(pid, 0) > 40:
                continue
            found = read_process(pid, now)
            with self.lock:
                if found is None:
                    if known:
                        self._end(pid, now)
                    self._others[pid] = self._others.get(pid, 0) + 1
                elif known and known.start == found.start:
                    known.last = now
                else:
                    if known:
                        self._end(pid, now)
                    self.alive[pid] = found
        self._others = {pid: count for pid, count in self._others.items() if pid in seen}
        with self.lock:
            self.ended = [process for process in self.ended if now - process.ended < KEPT]

    def _end(self, pid, now):
        process = self.alive.pop(pid)
        process.ended = now
        self.ended.append(process)

    def at(self, pid, since, until):
        """Every process that had this PID at some time from `since` to `until`."""
        with self.lock:
            known = [*self.alive.values(), *self.ended]
        return [
            process for process in known
            if process.pid == pid and process.first <= until and (process.ended or until) >= since
        ]

    def of_pod(self, pod, namespace="default"):
        """Its living processes."""
        with self.lock:
            return [one for one in self.alive.values() if (one.namespace, one.pod) == (namespace, pod)]


class Card:
    """Cards for the fake driver: their processes are the workloads'."""

    TOTAL, RESERVED = 143_771 * MIB, 615 * MIB
    SAMPLE = 0.2

    def __init__(self, folder, uuids):
        self.file = pathlib.Path(folder) / "script.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.uuids = uuids
        self._rings = {uuid: [] for uuid in uuids}
        self._turns, self._exited, self._last = dict.fromkeys(uuids, 0), {}, None
        self.unloaded = False
        # MIG instances of cards that are in MIG mode, by the card's UUID.
        self.mig = {}
        self.show([], time.time())

    def show(self, processes, now):
        gpus = []
        for number, uuid in enumerate(self.uuids):
            here = [process for process in processes if uuid in process.cards]
            gpus.append({
                "uuid": uuid, "name": "NVIDIA H200", "minor": number,
                "pci_bus_id": f"00000000:{0x1B + number:02X}:00.0", "sample_type": 1,
                "memory": {
                    "total": self.TOTAL, "reserved": self.RESERVED,
                    "used": sum(process.mib for process in here) * MIB,
                },
                "compute": [{"pid": process.pid, "used": process.mib * MIB} for process in here],
                "ring": self._ring(uuid, here, now),
                "exited": sorted({row["winner"] for row in self._rings[uuid] if row["winner"]} - {p.pid for p in here}),
                "began": {str(process.pid): int(process.first * 1e6) for process in here},
                "mig": {"enabled": True, "instances": self.mig[uuid], "profiles": []} if uuid in self.mig else None,
            })
        script = {"driver_version": "580.159.04", "unloaded": self.unloaded, "gpus": gpus}
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(script))
        fresh.rename(self.file)

    def _ring(self, uuid, here, now):
        """Each 200 ms a winner, one process after the other."""
        ring, at = self._rings[uuid], int(now / self.SAMPLE) * int(self.SAMPLE * 1e6)
        if not ring or at > ring[-1]["at"]:
            winner = None
            if here:
                self._turns[uuid] += 1
                winner = sorted(process.pid for process in here)[self._turns[uuid] % len(here)]
            ring.append({"at": at, "winner": winner, "percent": 98 if winner else 0})
            del ring[:-70]
        return ring
