"""Time of a ScienceWorld step: the stock wrapper's, and ours.

    python benchmarks/scienceworld_speed.py            # about six minutes
    python benchmarks/scienceworld_speed.py at_once    # the second table only

Both play the same actions (gold paths, in the order of the tasks) in the same run, each with one JVM: the wrapper as it comes, with its own JVM settings, and ours
three times: lean (the default), with the objects that can be named, and with every admissible action, as the wrapper lists them. The first round warms the JVMs up and is not counted.
They take turns task by task, so that a busy machine is busy for both. Times are wall-clock, per step, as the caller sees them: worker process, sockets and all.

Then sixteen episodes at once, as a training step rolls them out (pocket tasks, eight steps each): with an engine for each world, and with the worlds sharing an engine for each core, which is how it comes.
Processor seconds of all engines and workers from the first start on, and what memory they hold after the last round. Both say the same; the script checks that.
"""
import argparse, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import psutil
from scienceworld import ScienceWorldEnv
from guided_opd.envs import scienceworld_pool
from guided_opd.envs.scienceworld import POCKET_TASKS, ScienceWorld

TASKS = "find-plant find-animal lifespan-longest-lived power-component chemistry-mix-paint-secondary-color use-thermometer freeze".split()

def memory(pid): return sum(p.memory_info().rss for p in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)])/2**20

def main(rounds:int):
    stock, ours = ScienceWorldEnv("", envStepLimit=1000), {k: ScienceWorld(max_turns=1000, **kw) for k, kw in
        {"ours, lean": {}, "ours, with objects": dict(objects=True), "ours, admissible actions": dict(admissible=True)}.items()}
    times = {k: [0., 0] for k in ("stock wrapper", *ours)}
    resets = {k: [0., 0] for k in times}
    for round in range(rounds + 1):
        for task in TASKS:
            gold = ours["ours, lean"].gold_path(f"{task}/0")[:40]
            for name in times:
                t = time.perf_counter()
                if name == "stock wrapper": stock.load(task, 0, "easy"); stock.reset(); step = stock.step
                else: ours[name].reset(options=dict(task=f"{task}/0")); step = lambda a, env=ours[name]: env._act(a)
                t1 = time.perf_counter()
                for action in gold: step(action)
                if round:
                    resets[name][0] += t1 - t; resets[name][1] += 1
                    times[name][0] += time.perf_counter() - t1; times[name][1] += len(gold)
    base = times["stock wrapper"][0]/times["stock wrapper"][1]
    mib = {"stock wrapper": memory(stock._gateway.java_process.pid), **{k: memory(e._world.worker.process.pid) for k, e in ours.items()}}
    print(f"{times['ours, lean'][1]} steps each\n\n| | ms a step | times faster | ms a reset | memory, MiB |\n|---|---:|---:|---:|---:|")
    stock.close()
    for e in ours.values(): e.close()
    for k, (t, n) in times.items(): print(f"| {k} | {1e3*t/n:.1f} | {base/(t/n):.1f} | {1e3*resets[k][0]/resets[k][1]:.0f} | {mib[k]:.0f} |")

def at_once(engines:int, rounds:int, episodes=16):
    "Processor seconds after each round, memory at the end, what was said."
    scienceworld_pool.CORES = engines
    scienceworld_pool.stop_workers()
    envs, seconds, said = [ScienceWorld() for _ in range(episodes)], [], []
    mine = lambda: [p for w in scienceworld_pool._workers for p in (psutil.Process(w.process.pid), psutil.Process(w.engine_pid))]
    def episode(i, round):
        first = envs[i].reset(options=dict(task=f"{POCKET_TASKS[(i + round) % 7]}/{(7*i + round) % 60}"))[0]
        return [first] + [envs[i]._act(a)[0] for a in ("teleport to kitchen", "look around", "open cupboard", "pick up thermometer", "focus on cupboard door", "teleport to outside", "look around", "inventory")]
    with ThreadPoolExecutor(episodes) as pool:
        for round in range(rounds):
            said.append(list(pool.map(episode, range(episodes), [round]*episodes)))
            seconds.append(sum(sum(p.cpu_times()[:2]) for p in mine()))
    held = sum(memory(w.process.pid) for w in scienceworld_pool._workers)
    for e in envs: e.close()
    return seconds, held, said

def batch(rounds:int):
    cores = scienceworld_pool.CORES
    (many, most, said), (few, least, same) = at_once(16, rounds), at_once(cores, rounds)
    assert said == same
    print(f"\n| sixteen episodes at once | engines | CPU s, first round | CPU s, {rounds} rounds | CPU s, last round | memory, MiB |\n|---|---:|---:|---:|---:|---:|")
    for name, n, s, m in (("an engine for each world", 16, many, most), ("an engine for each core", cores, few, least)): print(f"| {name} | {n} | {s[0]:.0f} | {s[-1]:.0f} | {s[-1] - s[-2]:.1f} | {m:.0f} |")

if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("part", nargs="?", choices=("steps", "at_once"), help="one of the two tables"); p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    if args.part != "at_once": main(args.rounds)
    if args.part != "steps": batch(4*args.rounds)
