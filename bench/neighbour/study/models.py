#!/usr/bin/env python3
"""A tenant that trains or serves a small transformer in PyTorch, and reports as slicewatch-tenant does.

    models.py train --seconds N --report FILE
    models.py infer [--graph] --seconds N --report FILE --record FILE

Weights and tokens are random: nothing is downloaded. `infer` answers one request of 128 tokens at
exponential gaps; with --graph its kernels are launched as one CUDA graph, as servers do.
Exit status 2: there is no PyTorch here that can use a GPU.
"""

import argparse
import json
import os
import random
import struct
import sys
import time

REQUEST = struct.Struct("<QQQ")
VOCABULARY = 8192


def report(file, kind, **fields):
    """One JSON line."""
    file.write(json.dumps({"kind": kind, "pid": os.getpid(), "unix": time.time(), **fields}) + "\n")
    file.flush()


def transformer(torch, layers, width, heads):
    """A plain decoder without a mask: what matters is its kernels."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            batch, length, _ = x.shape
            parts = self.mix(self.before(x)).view(batch, length, 3, heads, width // heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(query, key, value)
            x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(functional.gelu(self.up(self.after(x))))

    body = [Block() for _ in range(layers)]
    model = nn.Sequential(nn.Embedding(VOCABULARY, width), *body, nn.LayerNorm(width), nn.Linear(width, VOCABULARY))
    return model.to(device="cuda", dtype=torch.bfloat16)


def train(torch, arguments, out):
    """Steps back to back, until the time is over."""
    model = transformer(torch, layers=8, width=1024, heads=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(VOCABULARY, (16, 512), device="cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens)
        loss = torch.nn.functional.cross_entropy(logits.float().view(-1, VOCABULARY), tokens.view(-1))
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(5):
        step()
    torch.cuda.synchronize()
    report(out, "ready", model="training")
    begun, steps = time.monotonic(), 0
    while time.monotonic() < begun + arguments.seconds:
        for _ in range(4):
            loss = step()
        loss.item()
        steps += 4
    elapsed = time.monotonic() - begun
    report(out, "final", elapsed_seconds=elapsed, requests=steps)


def infer(torch, arguments, out):
    """Requests at exponential gaps, each timed by the host."""
    model = transformer(torch, layers=4, width=512, heads=8).eval()
    tokens = torch.randint(VOCABULARY, (1, 128), device="cuda")
    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(10):
                model(tokens)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        answer = lambda: model(tokens)
        if arguments.graph:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                model(tokens)
            answer = graph.replay
        for _ in range(20):
            answer()
        torch.cuda.synchronize()
        report(out, "ready", model="inference", graph=arguments.graph)
        source, begun, requests = random.Random(os.getpid()), time.monotonic(), 0
        flushed = begun
        with open(arguments.record, "wb") as record:
            while time.monotonic() < begun + arguments.seconds:
                asked = time.monotonic_ns()
                answer()
                torch.cuda.synchronize()
                record.write(REQUEST.pack(asked, time.monotonic_ns(), 0))
                requests += 1
                if time.monotonic() > flushed + 1:
                    record.flush()
                    flushed = time.monotonic()
                time.sleep(source.expovariate(1 / (arguments.gap_ms / 1000)))
    report(out, "final", elapsed_seconds=time.monotonic() - begun, requests=requests)


def main():
    """As the first word says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "infer"))
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--gap-ms", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--report", required=True)
    parser.add_argument("--record")
    arguments = parser.parse_args()
    if arguments.what == "infer" and not arguments.record:
        parser.error("infer needs --record")
    try:
        import torch
    except ImportError as error:
        print(f"models.py: {error}", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("models.py: this PyTorch cannot use a GPU", file=sys.stderr)
        return 2
    torch.manual_seed(1)
    with open(arguments.report, "w", encoding="utf-8") as out:
        {"train": train, "infer": infer}[arguments.what](torch, arguments, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
