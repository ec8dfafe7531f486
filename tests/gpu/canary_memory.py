"""Whether the canary gives its memory back before a tenant needs it."""

import signal
import time

import figures
import probing
from rig import Broken, wait_for


def grow(rig, pod, limits_seconds, **load):
    """A tenant that grows until two steps in a row were refused, or there are no more steps."""
    tenant = rig.tenant(pod, "--idle", seconds=probing.FOREVER, **load)
    tenant.wait_for_line("ready", 30)
    wanted = load.get("grow_steps")

    def done():
        taken, refused = grown(tenant)
        return len(refused) >= 2 or (wanted is not None and len(taken) >= wanted)

    wait_for(f"{pod} to have grown", limits_seconds, done, 0.05)
    return tenant


def grown(tenant):
    """Steps taken and steps refused."""
    taken = [line for line in tenant.lines("memory") if line["reason"] == "grow"]
    return taken, tenant.lines("refused")


def free_bytes(agent, rig):
    """Free framebuffer and the canary's part of what is used, of one snapshot."""
    gpu = agent.gpu(rig.gpu_uuid)
    memory, rest = figures.value_of(gpu["memory_bytes"]), figures.value_of(gpu["unattributed_bytes"])
    if memory is None:
        raise Broken(f"the agent does not know the card's memory: {gpu['memory_bytes']}")
    return {"total": memory["total"], "free": memory["free"], "canary": (rest or {}).get("canary", 0)}


def wait_state(canary, state, seconds):
    """Seconds until the canary is in a state; None where it is not in time."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        if canary.view()["state"] == state:
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def check_canary_memory(rig, limits):
    """Is its memory given back before a tenant needs it, and what does a tenant get that jumps?"""
    patience = max(20.0, probing.budget(rig, 240) / 6)
    plain = rig.agent("canary-memory-off", *probing.OFF)
    probing.idler(rig)
    probing.window()
    room = free_bytes(plain, rig)
    # All but twice the floor of 5 % is taken at once; the rest by steps smaller than the canary is.
    step, hold = 64, int(room["free"] - 0.1 * room["total"]) // figures.MIB
    load = {"memory_mib": hold, "grow_mib": step, "grow_at_s": 4, "grow_every_ms": 40}

    def steps_of(pod):
        tenant = grow(rig, pod, patience + 40, **load)
        taken, refused = grown(tenant)
        probing.window()
        return tenant, len(taken), refused

    tenant, without, _ = steps_of("alone")
    own = room["free"] - free_bytes(plain, rig)["free"] - (hold + step * without) * figures.MIB
    tenant.stop()
    plain.stop()

    canary = probing.Canary(rig, "canary-memory")
    canary.wait_running()
    probing.window()
    before = free_bytes(canary.agent, rig)
    tenant, with_it, refused = steps_of("grower")
    full = free_bytes(canary.agent, rig)
    at_full = canary.view()
    early = [line for line in refused if line["number"] <= with_it]
    tenant.stop()
    back = wait_state(canary, "running", patience + 60)
    canary.wait_running()

    # The same with an agent that is stopped, and so cannot give way: what would have been.
    canary.agent.process.send_signal(signal.SIGSTOP)
    try:
        tenant, held, _ = steps_of("beside-held")
    finally:
        canary.agent.process.send_signal(signal.SIGCONT)
    tenant.stop()
    canary.wait_running(patience + 60)
    probing.window()

    size = before["canary"]
    limits.at_least("the canary's own memory", size, 1, "bytes")
    limits.at_least("steps taken beside the canary (alone, less one)", with_it, without - 1)
    limits.at_most("steps refused before the last one taken", len(early), 0)
    limits.at_most("steps taken beside a canary that could not leave", held, with_it - 1)
    limits.at_least("it was yielded when the card was full", int(at_full["state"] == "yielded"), 1)
    limits.at_most("from the tenant's end to running again", back, 120.0, "s")
    jumps = {name: jump(rig, canary, name, size, own, patience) for name in ("fits", "past")}
    limits.at_most("a jump under the floor that fits: steps refused", jumps["fits"]["refused"], 0)
    limits.at_most("the same: until the canary was gone", jumps["fits"]["yielded_after_seconds"], 5.0, "s")
    canary_mib, last = size / figures.MIB, f"{full['free'] / figures.MIB:.0f} MiB free at the end"
    notes = [
        f"canary {canary_mib:.0f} MiB; steps of {step} MiB until refused: alone {without}, beside the canary {with_it} "
        f"({last}), beside a canary that could not leave {held}",
    ]
    notes += [f"jump that {name}: {jump_words(each)}" for name, each in
              (("fits beside it", jumps["fits"]), ("fits only without it", jumps["past"]))]
    return {
        "notes": notes,
        "step_mib": step,
        "room": room,
        "own_context_bytes": own,
        "canary_bytes": size,
        "steps": {"alone": without, "beside": with_it, "beside_held": held},
        "free_when_full": full,
        "running_again_after_seconds": back,
        "jumps": jumps,
    }


def jump_words(found):
    """A jump in a line."""
    text = f"{found['asked_bytes'] / figures.MIB:.0f} MiB at once: "
    text += f"taken after {found['refused']} refusals" if found["taken"] else f"refused {found['refused']} times"
    after = found["yielded_after_seconds"]
    return text + (", the canary stayed" if after is None else f", the canary had yielded after {after:.2f} s")


def jump(rig, canary, name, size, own, patience):
    """One step from plenty to almost nothing: what fits beside the canary, or only without it."""
    free = free_bytes(canary.agent, rig)["free"] - own
    # "past" needs half of what the canary holds.
    bytes_ = free - size // 2 - 32 * figures.MIB if name == "fits" else free + size // 2
    load = {"grow_mib": bytes_ // figures.MIB, "grow_steps": 1, "grow_at_s": 3, "grow_every_ms": 500}
    tenant = rig.tenant(f"jump-{name}", "--idle", seconds=probing.FOREVER, **load)
    tenant.wait_for_line("ready", 30)
    wait_for(f"jump-{name} to have tried", 20, lambda: any(grown(tenant)), 0.02)
    after = wait_state(canary, "yielded", 5)
    probing.settle()
    taken, refused = grown(tenant)
    tenant.stop()
    again = wait_state(canary, "running", patience + 60)
    canary.wait_running()
    probing.window()
    return {
        "asked_bytes": bytes_,
        "free_before_bytes": free,
        "taken": len(taken),
        "refused": len(refused),
        "seconds_until_taken": taken[0]["unix"] - refused[0]["unix"] if taken and refused else None,
        "yielded_after_seconds": after,
        "running_again_after_seconds": again,
    }
