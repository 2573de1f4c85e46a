"Whatever an agent may say: `step` of every environment answers with a text, in its own contract, and never with an exception."
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from guided_opd.envs.base import make_env

WORDS = ["look around", "go to", "focus on", "search[", "click[", "]", "[", "buy now", "move", "to", "pick up", "0", "1", "task", "help", "objects", "reset task", "take apple 1 from fridge 1",
         "teleport to kitchen", "stove", "open", "fridge 1", "< prev", "next >", "connect", "pour", "in", "wait1", "inventory", "back to search"]
actions = st.one_of(
    st.text(max_size=60),                                                                        # any Unicode, half surrogate pairs included
    st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join),
    st.lists(st.sampled_from(WORDS + ["\n", "\r\n", "\t", "\x00", "🤔", "👩🏽‍🔬", "\u202e", "ﬃ", "<b>", "</action>", "<script>alert(1)</script>", "&amp;", "{x}", "%s", "\\", "'", '"', "[SEP]"]), max_size=9).map("".join),
    st.builds(lambda s, n: (s*n)[:100_000], st.sampled_from(["x", "look ", "[", "search[", "🤔", "\n", "<div>", "a\n"]), st.sampled_from([1, 5000, 100_000])))

def contract(env, obs, reward, terminated, truncated, info):
    assert isinstance(obs, str) and obs and isinstance(reward, float) and isinstance(terminated, bool) and isinstance(truncated, bool)
    assert 0 <= info["score"] <= 1 and isinstance(info["success"], bool) and isinstance(info["valid"], bool) and (info["admissible"] is None or isinstance(info["admissible"], list))
    assert env.observation_space.contains(obs)

@pytest.fixture(scope="module", params=["alfworld", "scienceworld", "webshop"])
def world(request, tmp_path_factory):
    if request.param == "scienceworld":
        from helpers import needs_scienceworld
        needs_scienceworld()
        env = make_env("scienceworld", task_types="pocket", max_turns=12)
    else: env = make_env(request.param, **(dict(games="generated", max_turns=12) if request.param == "alfworld" else dict(size=300, cache=str(tmp_path_factory.mktemp("cache")))))
    yield env, env.tasks("train", 5)
    env.close()

@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_step_takes_any_text(world, data):
    env, tasks = world
    obs, info = env.reset(options=dict(task=data.draw(st.sampled_from(tasks))))
    assert obs and info["valid"]
    for turn in range(1, 13):
        obs, *rest, info = env.step(data.draw(actions))
        contract(env, obs, *rest, info)
        assert info["turn"] == turn
        if any(rest[1:]): break
