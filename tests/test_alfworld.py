"ALFWorld: generated games, score, expert, planner, export, and whatever a model may throw at it."
import hashlib, json, os, random, subprocess, sys, threading
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
from gymnasium.utils.env_checker import check_env
from guided_opd.envs.alfworld import ALFWorld, export_games
from guided_opd.envs.alfworld_games import TASK_TYPES, UNSEEN, make_game, make_scene, task_type
from guided_opd.envs.base import make_env


def begin(env, task): return env.reset(options={"task": task})

def solve(env, task):
    "The whole episode as text, and the last info."
    obs, info = begin(env, task)
    expert, log = env.expert(), [obs]
    for _ in range(env.max_turns):
        log.append(expert.act(obs))
        obs, reward, terminated, truncated, info = env.step(log[-1])
        log.append(obs)
        assert (info["score"] == 1) == info["success"] == terminated == (reward == 1)
        if terminated or truncated: break
    return "\n".join(log), info


@settings(max_examples=40, deadline=None)
@given(i=st.integers(0, 10**9), size=st.sampled_from(["compact", "full"]), split=st.sampled_from(["train", "valid", "test"]))
def test_every_id_is_a_fair_game(i, size, split):
    scene = make_scene(f"{size}/{split}/{i}")
    assert scene["type"] == TASK_TYPES[i % 6] and (scene["plan"] in UNSEEN) == (split == "test")
    assert size == "full" or 3 <= len(scene["receptacles"]) <= 9
    env = ALFWorld(size=size, games="generated")
    obs, info = begin(env, scene["task"])
    assert scene["text"] in obs and not info["success"] and "help" not in info["admissible"] and obs.startswith("You are in the middle of a room.")
    names = [e.name for e in env.game.entities.values() if e.type in ("object", "receptacle")]
    assert len(set(names)) == len(names) and len(set(dict(env.game.facts["receptacleatlocation"]).values())) == len(scene["receptacles"])
    for cmd in env.plan():
        assert not info["success"] and cmd in info["admissible"]
        *_, info = env.step(cmd)
    assert info["success"] and info["score"] == 1


def test_expert_wins_within_the_limit():
    for size, n, limit in (("compact", 120, 30), ("full", 36, 50)):
        env = ALFWorld(size=size, games="generated")
        assert env.max_turns == limit
        infos = [solve(env, t)[1] for split in ("train", "test") for t in env.tasks(split, n//2)]
        assert sum(i["success"] for i in infos) >= .97*n
        if size == "compact": assert 7 <= sorted(i["turn"] for i in infos)[n//2] <= 15


@settings(max_examples=25, deadline=None)
@given(i=st.integers(0, 10**6), seed=st.integers(0, 10**6), p=st.floats(0, 1))
def test_expert_and_planner_after_anybodys_mistakes(i, seed, p):
    "The expert proposes only what can be done, and the planner wins from wherever the walk ended."
    env, rng = ALFWorld(max_turns=1000), random.Random(seed)
    obs, info = begin(env, f"compact/train/{i}")
    expert = env.expert()
    for _ in range(25):
        proposal = expert.act(obs)
        assert proposal in info["admissible"]
        obs, *_, info = env.step(rng.choice(info["admissible"]+["dance"]) if rng.random() < p else proposal)
        assert (info["score"] == 1) == info["success"]
        if info["success"]: return
    plan = env.plan()
    for cmd in plan: *_, info = env.step(cmd)
    assert info["success"] and len(plan) <= 30


@settings(max_examples=60, deadline=None)
@given(junk=st.one_of(st.text(max_size=300), st.sampled_from(["go to "*17_000, "\x00\x1b[2J", "<script>go to</script>", "{r.name}", "#intro#", "😀"*25_000, "take  mug 1", "HELP"])))
def test_any_action_is_survived(junk):
    obs, info = begin(_env, "compact/valid/7")
    before = dict((k, set(v)) for k, v in _env.game.facts.items())
    text, reward, terminated, truncated, after = _env.step(junk)
    assert isinstance(text, str) and not terminated and after["turn"] == 1
    if junk.strip() not in [*info["admissible"], "help"]:
        assert (text, after["valid"], reward) == ("Nothing happens.", False, 0.) and after["admissible"] == info["admissible"]
        assert {k: set(v) for k, v in _env.game.facts.items()} == before

_env = ALFWorld()


def test_every_admissible_action_is_understood():
    env = ALFWorld(max_turns=10_000)
    for task in env.tasks("valid", 6):
        obs, info = begin(env, task)
        rng = random.Random(task)
        for _ in range(40):
            action = rng.choice(info["admissible"])
            obs, *_, info = env.step(f"  {action}\n")
            assert info["valid"] and obs and obs != "Nothing happens.", action
            if info["success"]: break


def test_score_counts_goal_conditions():
    seen = {}
    for task in ALFWorld().tasks("train", 60):
        env = ALFWorld()
        obs, info = begin(env, task)
        expert, scores = env.expert(), {info["score"]}
        while not info["success"]:
            obs, *_, info = env.step(expert.act(obs))
            scores.add(info["score"])
        seen.setdefault(task_type(task), set()).update(scores)
    third = {0, 1/3, 1}
    assert seen == {t: third if t.split("_")[1] in ("clean", "heat", "cool") else {0, 1} if t.endswith("simple") else {0, .5, 1} for t in TASK_TYPES}


def digest():
    env = ALFWorld()
    return hashlib.sha256("".join(solve(env, t)[0] for t in env.tasks("test", 12)).encode()).hexdigest()


def test_same_task_same_episode_in_any_process_and_thread():
    def other_process(hash_seed):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
        return subprocess.run([sys.executable, "-c", "import test_alfworld as t; print(t.digest())"], capture_output=True, text=True, check=True, env=env).stdout.strip()
    want = digest()
    assert other_process("1") == other_process("2") == want
    got = []
    threads = [threading.Thread(target=lambda: got.append(digest())) for _ in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert got == [want]*6


def test_unknown_tasks_are_refused():
    env = ALFWorld()
    for task in ("compact/train", "compact/dev/1", "compact/train/-1", "compact/train/1/2", "", "official/train/x/y", "official/../..", "huge/train/1", 7):
        with pytest.raises(ValueError, match="Unknown task"): begin(env, task)
    with pytest.raises(ValueError, match="call reset"): ALFWorld().plan()


def test_goals_in_free_wording_are_refused_by_the_expert():
    with pytest.raises(ValueError, match="template wording"): ALFWorld().expert().act("You see a mug 1.\n\nYour task is to: tidy up a bit.")


def test_gymnasium_accepts_it(): check_env(make_env("alfworld"), skip_render_check=True)


def test_exported_games_are_official_games(tmp_path, monkeypatch):
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="alfworld-download"): make_env("alfworld", games="official")
    assert make_env("alfworld", size="full").tasks("train", 1) == ["full/train/0"]
    for split in ("train", "test"): paths = export_games(tmp_path, n=6, seed=12, split=split, size="compact")
    env = make_env("alfworld", size="full")         # "auto" finds them
    tasks = env.tasks("train")
    assert len(tasks) == 6 and all(t.startswith("official/train/") for t in tasks) and len(env.tasks("valid_unseen")) == 6
    assert {t.split("/")[2].split("-")[0] for t in tasks} == set(TASK_TYPES)
    assert len(make_env("alfworld", games="official", task_types="pick_two_obj_and_place").tasks("train")) == 1
    for task in tasks:
        assert solve(env, task)[1]["success"]
        begin(env, task)
        data = json.loads((tmp_path/"json_2.1.1"/task.removeprefix("official/")/"game.tw-pddl").read_text())
        assert data["solvable"] and data["walkthrough"] == env.plan()


def test_a_damaged_game_is_told_apart():
    from guided_opd.envs.alfworld_engine import Game
    game = make_game("compact/train/0")
    with pytest.raises(ValueError, match="cut off"): Game({**game, "pddl_problem": game["pddl_problem"][:500]})
    with pytest.raises(ValueError, match="lacks grammar"): Game({k: game[k] for k in ("pddl_domain", "pddl_problem")})
