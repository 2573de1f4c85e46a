"The contract of text environments: bookkeeping, errors, the registry."
import os, pickle, subprocess, sys
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from guided_opd.envs.base import Expert, TextEnv, env_names, make_env, register_env


class Echo(TextEnv):
    "Says back what it hears; over when it hears 'end'."
    name = "echo"
    def tasks(self, split, n=None): return [f"{self._check_split(split)}/{i}" for i in range(n or 5)]
    def _start(self, task):
        if task not in self.tasks("train"): raise ValueError(f"Unknown task {task!r}.")
        return task, {}
    def _act(self, action): return action[:50], action == "end", action == "end", dict(success=action == "end", score=float(action == "end"))


def test_info_is_complete_and_turns_are_counted():
    env = Echo(max_turns=3)
    obs, info = env.reset(options={"task": "train/2"})
    assert obs == "train/2" and info == dict(score=0., success=False, valid=True, admissible=None, task="train/2", turn=0)
    for turn in (1, 2, 3):
        _, reward, terminated, truncated, info = env.step("hm")
        assert (info["turn"], terminated, truncated, reward) == (turn, False, turn == 3, 0.)
    with pytest.raises(ResetNeeded, match="call reset"): env.step("hm")
    env.reset()
    *_, terminated, truncated, info = env.step("end")
    assert (terminated, truncated, info["success"], info["turn"]) == (True, False, True, 1)


def test_winning_on_the_last_turn_is_no_truncation():
    env = Echo(max_turns=1)
    env.reset()
    _, reward, terminated, truncated, _ = env.step("end")
    assert (reward, terminated, truncated) == (1., True, False)


def test_misuse_is_told_in_a_sentence():
    env = Echo()
    with pytest.raises(ResetNeeded): env.step("hm")
    with pytest.raises(ValueError, match="Unknown split 'dev'.*train, valid, test"): env.tasks("dev")
    with pytest.raises(ValueError, match="only, not 'tsak'"): env.reset(options={"tsak": "train/1"})
    with pytest.raises(NotImplementedError, match="no scripted expert"): env.expert()
    with pytest.raises(NotImplementedError, match="act"): Expert().act("")
    env.reset()
    with pytest.raises(ValueError, match="Unknown task"): env.reset(options={"task": "nowhere"})
    with pytest.raises(ResetNeeded): env.step("hm")         # a failed reset leaves no half-begun episode
    with pytest.raises(ValueError, match="at least 1"): Echo(max_turns=0)


def test_copies_are_equal_and_independent():
    env = Echo(max_turns=7)
    env.reset(); env.step("hm")
    for other in (env.copy(), pickle.loads(pickle.dumps(env))):
        assert (other.max_turns, other.turn) == (7, 0)
        other.reset(); assert env.turn == 1


def test_same_seed_same_task():
    assert [Echo().reset(seed=s)[0] for s in range(20)] == [Echo().reset(seed=s)[0] for s in range(20)]
    assert len({Echo().reset(seed=s)[0] for s in range(20)}) > 1


def test_gymnasium_accepts_it(): check_env(Echo(), skip_render_check=True)


def test_registry(monkeypatch):
    import guided_opd.envs.base as base
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    assert set(env_names()) >= {"alfworld", "scienceworld", "webshop"}
    register_env("echo", Echo)
    assert make_env("echo", max_turns=4).max_turns == 4
    register_env("gone", "no_such_engine:Env")
    with pytest.raises(ImportError, match="'gone' needs the module 'no_such_engine'"): make_env("gone")
    with pytest.raises(ValueError, match="Unknown environment 'ecko'.*echo"): make_env("ecko")


def test_the_floor_is_light():
    code = "import guided_opd.envs.base, sys; print([m for m in ('torch','transformers','textworld','alfworld') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}).stdout.strip() == "[]"
