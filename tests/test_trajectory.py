"The file of trajectories: whatever an environment says comes back, and a damaged line costs that line only."
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from guided_opd.trajectory import FORMAT_VERSION, Trajectory, Turn, append_trajectories, read_trajectories

anything = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(["\ud800", "a\udfffb", "\u2028x\u2029", "\x85", "\x00\x1f\x7f", "\r\n", '{"version": 1}\n', "\\u0041\\", "<|im_end|>", "🤷‍♀️", "﻿"])
number = st.floats(allow_nan=False, allow_infinity=False, width=32)
turn = st.builds(Turn, observation=anything, reply=anything, action=anything, actor=st.sampled_from(["student", "teacher", "expert"]), prompt_ids=st.lists(st.integers(0, 200_000), max_size=3),
                 reply_ids=st.lists(st.integers(0, 200_000), max_size=3), logprobs=st.lists(number, max_size=3), stop=st.sampled_from(["eos", "length"]), valid=st.booleans(), reward=number, score=number, trained=st.booleans(),
                 measures=st.dictionaries(anything, st.lists(number, max_size=3), max_size=2))
trajectory = st.builds(Trajectory, task=anything, env=anything, turns=st.lists(turn, max_size=3), beta=number, score=number, success=st.booleans(), ended=st.sampled_from(["environment", "max_turns", "context"]), final_observation=anything,
                       history=st.sampled_from(["transcript", "window"]), step=st.integers(0, 10**9), seed=st.integers(0, 2**63))

def joined(t):
    "Two lone surrogates side by side are one character in JSON, as in UTF-16; everything else stays."
    fix = lambda x: x.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if isinstance(x, str) else [fix(v) for v in x] if isinstance(x, list) else {fix(k): fix(v) for k, v in x.items()} if isinstance(x, dict) else x
    d = fix(t.__dict__ | dict(turns=[fix(u.__dict__) for u in t.turns]))
    return Trajectory(**{**d, "turns": [Turn(**u) for u in d["turns"]]})

@settings(max_examples=60, deadline=None)
@given(st.lists(trajectory, max_size=3), st.lists(trajectory, max_size=2))
def test_whatever_was_said_comes_back(tmp_path_factory, first, then):
    path = tmp_path_factory.getbasetemp()/"new"/"folder"/"trajectories.jsonl"
    path.unlink(missing_ok=True)
    append_trajectories(path, first); append_trajectories(path, iter(then))
    assert list(read_trajectories(path)) == [joined(t) for t in first + then]
    raw = path.read_bytes()
    bare = lambda t: replace(t, turns=[replace(u, prompt_ids=[], reply_ids=[], logprobs=[], topk={}) for u in t.turns])
    assert [Trajectory.glance(line) for line in raw.split(b"\n")[:-1]] == [bare(joined(t)) for t in first + then]
    assert list(read_trajectories(path, light=True)) == [joined(t).light() for t in first + then]
    raw.decode()  # UTF-8 for every other reader, too
    assert raw.count(b"\n") == len(first + then) and all(json.loads(l)["version"] == FORMAT_VERSION for l in raw.splitlines())

def some(n): return [Trajectory(f"task/{i}", "env", [Turn(f"öbs {i}\u2028", "go", "go", "student", [1], [2, 3], [-.5, -.25])]) for i in range(n)]

def test_a_torn_last_line_costs_that_line_wherever_it_was_torn(tmp_path):
    path, ts = tmp_path/"t.jsonl", some(3)
    append_trajectories(path, ts)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert list(read_trajectories(path, skip_malformed=True)) == ts[:2]
        with pytest.raises(ValueError, match="line 3, is not a whole trajectory.*skip_malformed=True"): list(read_trajectories(path))
    append_trajectories(path, ts[2:])   # after the torn line, on a line of its own
    assert list(read_trajectories(path, skip_malformed=True)) == ts
    with pytest.raises(ValueError, match="line 3"): list(read_trajectories(path))
    path.write_bytes(whole[:-1])        # only the line end is missing: nothing is lost
    append_trajectories(path, ts[:1])
    assert list(read_trajectories(path)) == ts + ts[:1]

@pytest.mark.parametrize("line, why", [("not json", "Expecting value"), ("[1]", "not a JSON object"), ("{}", "version is None"), ('{"version": 99}', "version is 99, this release reads 1"), ('{"version": 1, "task": "t"}', "missing"),
    (json.dumps(dict(json.loads(some(1)[0].to_json()), colour="red")), "colour"), (some(1)[0].to_json().replace('"actor":"student"', '"actor":"dog"'), "'dog'"), ('{"version":1,"task":"t","env":"e","turns":7}', "turns|iterable"), (b"\xff\xfe", "utf-8"),
    (json.dumps(json.loads(some(1)[0].to_json()) | dict(step="x")), "step"), (json.dumps(json.loads(some(1)[0].to_json().replace('"measures":{}', '"measures":{"reverse_kl":5}'))), "measures")])
def test_a_malformed_line_is_named_by_number_and_skipped_only_when_asked(tmp_path, line, why):
    path, (a, b) = tmp_path/"t.jsonl", some(2)
    append_trajectories(path, [a])
    with open(path, "ab") as f: f.write(b"\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")   # the empty line is nothing
    append_trajectories(path, [b])
    reader = read_trajectories(path)
    assert next(reader) == a             # what is whole can be read before the error
    with pytest.raises(ValueError, match=rf"t\.jsonl, line 3, .*({why})"): next(reader)
    assert list(read_trajectories(path, skip_malformed=True)) == [a, b]
    assert list(read_trajectories(path, skip_malformed=True, light=True)) == [a.light(), b.light()]

def test_what_is_no_number_or_no_actor_is_refused_before_it_reaches_the_file(tmp_path):
    with pytest.raises(ValueError, match="student, teacher, expert"): Turn("o", "r", "a", "nobody", [], [], [])
    t = some(1)[0]; t.turns[0].logprobs = [float("nan")]
    path = tmp_path/"t.jsonl"
    append_trajectories(path, some(1))
    with pytest.raises(ValueError): append_trajectories(path, [t])
    assert list(read_trajectories(path)) == some(1)

def test_counts_and_one_sequence():
    t = Trajectory("t", "e", [Turn("a", "r", "r", "student", [1, 2], [3], [-1.]), Turn("b", "", "", "teacher", [4], [], []), Turn("c", "r", "r", "expert", [5], [6, 7], [0., 0.])])
    assert t.ids() == [1, 2, 3, 4, 5, 6, 7] and (t.tokens(), t.tokens("student"), t.tokens("teacher"), t.tokens("expert")) == (3, 1, 0, 2)
    assert "teacher" in str(t) and not t.truncated and Trajectory("t", "e", [], ended="context").truncated
    t.history = "window"
    with pytest.raises(ValueError, match="own prompt"): t.ids()
