"Which turns are the teacher's: the share stays β, and the choice is the same again after a stop."
import json

import numpy as np
import pytest
import torch
from helpers import Corridor, policy
from hypothesis import given, settings, strategies as st
from test_trainer import fit, lm, same_run, training

from guided_opd.mixing import MIXING, ByDoubt
from guided_opd.rollout import RolloutMixer
from guided_opd.trajectory import read_trajectories

ENV, TASKS = Corridor(max_turns=6), [f"train/{i}" for i in (3, 5, 7, 9, 6, 9)]


@given(st.lists(st.lists(st.tuples(st.sampled_from([0., .1, .5, 2.]) | st.floats(0, 9), st.floats(0, 1), st.floats(0, 1, exclude_max=True)), min_size=1, max_size=6), max_size=80), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_by_doubt_the_teacher_never_owes_more_than_a_window_of_turns(rounds, window):
    mixing, n, betas = ByDoubt(None, window), 0, 0.
    mixing.doubt = lambda histories: histories
    for r in rounds:
        doubts, beta, draws = map(list, zip(*r))
        given = mixing(doubts, beta, draws)
        assert all(g == bool(b) for g, b in zip(given, beta)) or not set(beta) <= {0., 1.}
        if not set(beta) <= {0., 1.}: n, betas = n + sum(given), betas + sum(beta)
        assert abs(betas - n) <= window + 1

def test_a_trajectory_has_one_actor_and_doubt_asks_the_teacher_only():
    student, teacher = policy(0), policy(1, "teacher")
    roll = lambda name, **kw: RolloutMixer(student, teacher, ENV, beta=.5, seed=3, mixing=MIXING[name](teacher), **kw)(TASKS*3)
    who = [{u.actor for u in t.turns} for t in roll("trajectory")]
    assert all(len(w) == 1 for w in who) and {a for w in who for a in w} == {"student", "teacher"}
    assert [t.turns[0].actor for t in roll("trajectory", batch_size=2)] == [t.turns[0].actor for t in roll("trajectory")], "the coins do not depend on batches"
    assert roll("turn") == RolloutMixer(student, teacher, ENV, beta=.5, seed=3)(TASKS*3)
    a, b = roll("doubt"), roll("doubt")
    assert a == b and {u.actor for t in a for u in t.turns} == {"student", "teacher"}
    assert (teacher.max_new_tokens, student.max_new_tokens) == (5, 5)
    mixing, seen = ByDoubt(teacher), []
    real = mixing.doubt
    mixing.doubt = lambda h: seen.extend([(list(x.context), d) for x, d in zip(h, real(h))]) or [d for _, d in seen[-len(h):]]
    RolloutMixer(student, teacher, ENV, beta=.5, mixing=mixing)(TASKS[:2])
    for ids, d in seen[:4]:
        with torch.no_grad(): logp = teacher.model(torch.tensor([ids])).logits[0, -1, :teacher.vocab].log_softmax(-1)
        assert d == pytest.approx(-float(logp.max()), abs=1e-4)

@pytest.mark.parametrize("kw", [dict(mixing="doubt", guidance="constant", beta_start=.5), dict(guidance="adaptive", target_drift=.2), dict(guidance="adaptive", target_success=.3, beta_start=.6, mixing="trajectory")], ids=str)
def test_a_stopped_run_goes_on_to_the_bit(tmp_path, kw):
    kw |= dict(env=Corridor(max_turns=3), ratio=1.)
    fit(tmp_path/"a", **kw)
    fit(tmp_path/"b", 4, **kw)
    fit(tmp_path/"b", **kw)
    same_run(tmp_path/"a", tmp_path/"b")
    state = json.loads((tmp_path/"a"/"checkpoints"/"step_000006"/"state.json").read_text())
    if kw.get("mixing") == "doubt": assert len(state["mixing"]["recent"]) > 20 and {u.actor for t in read_trajectories(tmp_path/"a"/"trajectories.jsonl") for u in t.turns} == {"student", "teacher"}
    if kw["guidance"] == "adaptive": assert state["schedule"]["current"] not in (.6, 1.)
