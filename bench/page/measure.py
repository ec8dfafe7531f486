#!/usr/bin/env python3
"""What an open page costs the agent: CPU, bytes and memory with 0, 1 and 16 pages open.

The agent is the demo of 8 GPUs with 64 pods each, in real time, so that snapshots, history, pages and
their compression are the agent's own. The thread that simulates the node is left out of its CPU. A page
is what the script in a browser does: a stream, and the page fetched, compressed, at each of its words.
"""

import argparse
import http.client
import os
import signal
import socket
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
WORLD = "world"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ticks(path):
    """A thread's or process' name and its CPU time in ticks."""
    with open(path, encoding="utf-8") as file:
        name, _, rest = file.read().partition("(")[2].rpartition(")")
    fields = rest.split()
    return name, int(fields[11]) + int(fields[12])


def cpu_seconds(pid):
    """CPU time of the process, threads that have ended included, without the simulated world's."""
    spent = ticks(f"/proc/{pid}/stat")[1]
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            name, of_it = ticks(f"/proc/{pid}/task/{task}/stat")
        except FileNotFoundError:
            continue
        if name == WORLD:
            spent -= of_it
    return spent / TICKS


def memory_mib(pid, key):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        line = next(line for line in file if line.startswith(key + ":"))
    return int(line.split()[1]) / 1024


class Page(threading.Thread):
    """One open page."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.bytes = 0
        self.fetches = 0

    def run(self):
        try:
            self.look()
        except (http.client.HTTPException, OSError):
            pass  # The agent was ended; one that closes before is found by measure().

    def look(self):
        stream = http.client.HTTPConnection("127.0.0.1", self.port)
        stream.request("GET", "/live")
        words = stream.getresponse()
        assert words.status == 200, words.status
        pages = http.client.HTTPConnection("127.0.0.1", self.port)
        for line in words:
            self.bytes += len(line)
            if line.strip() != b"event: snapshot":
                continue
            pages.request("GET", "/", headers={"Accept-Encoding": "gzip"})
            answer = pages.getresponse()
            assert answer.status == 200, answer.status
            self.bytes += len(answer.read())
            self.fetches += 1


def measure(program, scenario, pages, seconds, warm_up):
    port = free_port()
    agent = subprocess.Popen(
        [program, "demo", "--scenario", scenario, "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(warm_up)
        opened = [Page(port) for _ in range(pages)]
        for page in opened:
            page.start()
        time.sleep(5)
        before, sent = cpu_seconds(agent.pid), sum(page.bytes for page in opened)
        began = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        spent = cpu_seconds(agent.pid) - before
        sent = sum(page.bytes for page in opened) - sent
        assert all(page.is_alive() for page in opened), "a page was closed"
        fetches = sum(page.fetches for page in opened)
        return {
            "pages": pages,
            "cpu": 1000 * spent / passed,
            "kib": sent / passed / 1024,
            "page_kib": sent / max(fetches, 1) / 1024,
            "rss": memory_mib(agent.pid, "VmRSS"),
            "peak": memory_mib(agent.pid, "VmHWM"),
        }
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/slicewatch", help="the built slicewatch")
    parser.add_argument("--scenario", default="many-pods", help="8 GPUs with 64 pods each")
    parser.add_argument("--pages", default="0,1,16", help="how many are open, one row each")
    parser.add_argument("--seconds", type=float, default=60, help="measured for so long")
    parser.add_argument("--warm-up", type=float, default=30, help="before pages are opened: the history grows")
    arguments = parser.parse_args()
    print("| pages open | CPU, ms a second | sent, KiB a second | resident, MiB | highest, MiB |\n|---:|---:|---:|---:|---:|")
    for pages in map(int, arguments.pages.split(",")):
        row = measure(arguments.program, arguments.scenario, pages, arguments.seconds, arguments.warm_up)
        print("| {pages} | {cpu:.1f} | {kib:.1f} | {rss:.1f} | {peak:.1f} |".format(**row), flush=True)


if __name__ == "__main__":
    main()
