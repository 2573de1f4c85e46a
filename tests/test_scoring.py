"One forward over a trajectory gives what turn-by-turn scoring gives, in any batch."
import copy

import numpy as np
import pytest
import torch
from helpers import TOK, Corridor, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from guided_opd.attention import share_prefixes
from guided_opd.chat import Chat
from guided_opd.losses import MEASURES, STUDENT, TEACHER, UNTRAINED
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import batches, collate, divergence, rows, score
from guided_opd.trajectory import Trajectory, Turn

def teacher_lm(**settings): return policy(1, "teacher", hidden=64, layers=3, vocab=len(TOK) + 40, **settings)   # a padded teacher vocabulary
STUDENT_LM, TEACHER_LM = policy(0), teacher_lm()

def rolled(kind, **kw):
    env = Corridor(max_turns=20 if kw else 6)
    return RolloutMixer(STUDENT_LM, TEACHER_LM, env, beta=.5, chat=Chat(TOK, kind, window=1), batch_size=4, seed=2, **kw)(env.tasks("train", 6))

@pytest.fixture(scope="module", params=["transcript", "window"])
def trajectories(request): return rolled(request.param)

def turn_by_turn(t):
    "The measures of every turn from a forward of its own, by the bare models, in float64."
    context = []
    for turn in t.turns:
        context = turn.prompt_ids if t.history == "window" else context + turn.prompt_ids
        n, ids = len(context), torch.tensor([context + turn.reply_ids])
        with torch.no_grad(): p, q = (lm.model(ids).logits[0, n-1:n-1+len(turn.reply_ids), :len(TOK)].double().log_softmax(-1).numpy() for lm in (STUDENT_LM, TEACHER_LM))
        pick = lambda x: x[np.arange(len(turn.reply_ids)), turn.reply_ids]
        yield turn, dict(reverse_kl=(np.exp(p)*(p - q)).sum(-1), forward_kl=(np.exp(q)*(q - p)).sum(-1), student_entropy=-(np.exp(p)*p).sum(-1), teacher_entropy=-(np.exp(q)*q).sum(-1), student_logprob=pick(p), teacher_logprob=pick(q))
        context = context + turn.reply_ids

def measures(ts): return [turn.measures for t in ts for turn in t.turns]

def same(a, b, atol=3e-5):
    for x, y in zip(a, b, strict=True):
        assert list(x) == list(y)
        for k in x: np.testing.assert_allclose(x[k], y[k], atol=atol, err_msg=k)

def test_one_forward_equals_turn_by_turn(trajectories):
    score(STUDENT_LM, TEACHER_LM, trajectories)
    for t in trajectories:
        for turn, expected in turn_by_turn(t):
            assert tuple(turn.measures) == MEASURES
            for k, v in expected.items(): np.testing.assert_allclose(turn.measures[k], v, atol=3e-5, err_msg=k)

def test_batches_and_padding_change_nothing(trajectories):
    apart, together = copy.deepcopy(trajectories), copy.deepcopy(trajectories)
    for t in apart: score(STUDENT_LM, TEACHER_LM, [t], max_tokens=1)
    score(STUDENT_LM, TEACHER_LM, together[::-1], max_tokens=10**6)
    same(measures(apart), measures(together))

def test_rows_are_batched_once_each_within_the_limit(trajectories):
    rs = rows(trajectories)
    assert len(rs) == (len(trajectories) if trajectories[0].history == "transcript" else sum(len(t.turns) for t in trajectories))
    assert [turn for r in rs for turn, _, _ in r.replies] == [turn for t in trajectories for turn in t.turns]
    for r in rs:
        for turn, start, end in r.replies: assert r.ids[start:end] == turn.reply_ids
    for limit in (1, 400, 10**6):
        parts = list(batches(rs, limit))
        assert sorted(map(id, sum(parts, []))) == sorted(map(id, rs))
        for p in parts: assert len(p) == 1 or sum(len(r.ids) for r in p) <= limit

@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_sequences_do_not_see_each_other_and_gradients_agree(trajectories, attention, checkpointing):
    "Values and gradients of a packed row are those of its sequences one by one, whatever the attention and with gradient checkpointing."
    if attention == "flex_attention" and not torch.cuda.is_available(): pytest.skip("needs a GPU: FlexAttention has no gradient on a CPU")
    device = "cuda" if attention == "flex_attention" else "cpu"
    head_dim = 16 if attention == "flex_attention" else 8       # its kernels want that
    teacher = teacher_lm(head_dim=head_dim); teacher.model.to(device)
    all_rows = rows(trajectories)
    def run(parts):
        lm = policy(0, head_dim=head_dim)
        lm.model.set_attn_implementation(attention); lm = type(lm)(lm.model.train().to(device), TOK)
        assert lm.packs == (attention != "eager")
        if checkpointing: lm.model.gradient_checkpointing_enable()
        out = [divergence(lm, teacher, collate(p)) for p in parts]
        sum(o.values_N.sum() for o in out).backward()
        return torch.cat([o.values_N for o in out]).detach(), [p.grad for p in lm.model.parameters()]
    (values, grads), (one, grads_one) = run([all_rows]), run([[r] for r in all_rows])
    torch.testing.assert_close(values, one, atol=3e-5, rtol=1e-4)
    for a, b in zip(grads, grads_one): torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-3)
    shuffled = all_rows[::-1]                         # who stands beside whom makes no difference
    torch.testing.assert_close(run([shuffled])[0].sort().values, values.sort().values, atol=3e-5, rtol=1e-4)

@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=9))
def test_what_begins_alike_is_computed_once_and_means_the_same(sequences):
    "Every token is found again, behind exactly what came before it; the hidden states are those of each sequence alone."
    flat, lengths, found = [i for s in sequences for i in s], [len(s) for s in sequences], share_prefixes(sequences)
    if found is not None:
        assert len(found.places) <= .8*len(flat) and sum(found.lengths) == len(found.places)
        ids, context, at = [flat[p] for p in found.places], [], 0
        for n, prefix in zip(found.lengths, found.prefixes, strict=True):
            before = ids[slice(*prefix)] if prefix else []
            context += [before + ids[at:at+i+1] for i in range(n)]
            at += n
        assert [context[b] for b in found.back] == [s[:i+1] for s in sequences for i in range(len(s))]
    with torch.no_grad():
        together = STUDENT_LM.hidden(torch.tensor([flat]), lengths)[0].split(lengths)
        for s, h in zip(sequences, together): torch.testing.assert_close(h, STUDENT_LM.hidden(torch.tensor([s]))[0], atol=3e-5, rtol=1e-4)

@pytest.mark.parametrize("limit", [10**6, 1500])
def test_turns_of_a_window_episode_share_their_beginning(limit):
    "Instructions and task stand in every prompt; the decoder sees them once for each episode of a batch, or less."
    chat = Chat(TOK, "window", window=1, instructions="You see a mug on the table . "*8)
    env = Corridor(max_turns=6)
    ts = RolloutMixer(STUDENT_LM, TEACHER_LM, env, beta=.5, chat=chat, batch_size=4, seed=2)(env.tasks("train", 6))
    seen, lm = [], policy(0)
    lm.model.model.register_forward_pre_hook(lambda m, args, kw: seen.append(kw["input_ids"].numel()), with_kwargs=True)
    parts = list(batches(rows(ts), limit))
    values = torch.cat([divergence(lm, TEACHER_LM, collate(p)).values_N for p in parts])
    alone = torch.cat([divergence(lm, TEACHER_LM, collate([r])).values_N for p in parts for r in p])
    torch.testing.assert_close(values, alone, atol=3e-5, rtol=1e-4)
    assert sum(seen[:len(parts)]) < .6*sum(seen[len(parts):])
    assert len({r.episode for r in rows(ts)}) == len(ts)

def test_only_trained_replies_enter_the_loss_and_each_by_its_actor(trajectories):
    for turn in [turn for t in trajectories for turn in t.turns][::3]: turn.trained = False
    try:
        all_rows = rows(trajectories)
        batch = collate(all_rows)
        assert all(turn.trained for turn in batch.turns)
        assert batch.sequences == [len(r.ids) for r in all_rows] and batch.ids_BT.shape == (1, sum(batch.sequences)), "no padding"
        for r, written in zip(all_rows, batch.actor_BT[0].split(batch.sequences)):
            who = [UNTRAINED]*len(r.ids)
            for turn, start, end in r.replies:
                if turn.trained: who[start-1:end-1] = [STUDENT if turn.actor == "student" else TEACHER]*(end - start)
            assert written.tolist() == who
        out = divergence(STUDENT_LM, TEACHER_LM, batch)
        assert len(out.values_N) == sum(batch.lengths) == sum(len(turn.reply_ids) for turn in batch.turns)
        assert batch.next_BT[batch.actor_BT != UNTRAINED].tolist() == [i for turn in batch.turns for i in turn.reply_ids]
        own = out.actors_N == STUDENT
        torch.testing.assert_close(out.values_N, torch.where(own, out.measures["reverse_kl"], out.measures["forward_kl"]))
    finally:
        for t in trajectories:
            for turn in t.turns: turn.trained = True

def test_changing_an_untrained_reply_changes_no_gradient_but_through_the_context():
    "The gradient of a batch with an untrained turn is that of the other turns alone."
    t = rolled("window")[0]
    assert len(t.turns) > 2
    def grad(ts):
        lm = policy(0)
        out = divergence(lm, TEACHER_LM, collate(rows(ts)))
        out.values_N.sum().backward()
        return [p.grad for p in lm.model.parameters()]
    without = copy.deepcopy(t); del without.turns[1]
    t.turns[1].trained = False
    for a, b in zip(grad([t]), grad([without])): torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)

def test_expert_turns_are_measured_and_never_trained():
    ts = rolled("transcript", student_last=2, max_turns=2)
    score(STUDENT_LM, TEACHER_LM, ts)
    experts = [turn for t in ts for turn in t.turns if turn.actor == "expert"]
    assert experts and not any(turn.trained for turn in experts)
    same([turn.measures for turn in experts], [m for t in ts for turn, m in turn_by_turn(t) if turn.actor == "expert"])
    assert not any(turn.actor == "expert" for turn in collate(rows(ts)).turns) and any(turn.actor == "expert" for turn in collate(rows(ts), everything=True).turns)

@pytest.mark.parametrize("kind", ["transcript", "window"])
def test_a_turn_without_tokens_and_an_episode_without_turns(kind):
    prompt, reply = TOK.encode("You", add_special_tokens=False), TOK.encode("go", add_special_tokens=False) + [TOK.eos_token_id]
    t = Trajectory("t", "e", [Turn("o", "", "", "student", prompt, [], []), Turn("o", "go", "go", "teacher", prompt*(1 if kind == "transcript" else 2), reply, [0.]*len(reply))], history=kind)
    ts = score(STUDENT_LM, TEACHER_LM, [Trajectory("empty", "e", [], history=kind), t])
    assert ts[1].turns[0].measures == {k: [] for k in MEASURES}
    same([ts[1].turns[1].measures], [list(turn_by_turn(t))[1][1]])
    assert score(STUDENT_LM, TEACHER_LM, []) == [] and rows([ts[0]]) == []
