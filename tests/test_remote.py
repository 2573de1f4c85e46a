"A teacher on a server: the same turns and scores as beside the student, and no fault of a server costs more than time."
import copy, time

import httpx
import numpy as np
import pytest
import torch
from helpers import TOK, Corridor, policy
from server import Server, streamed

from guided_opd.chat import word_tokenizer
from guided_opd.losses import STUDENT
from guided_opd.remote import RemoteError, RemotePolicy
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import collate, divergence, rows, score
from guided_opd.trainer import GuidedOPD

ENV = Corridor(max_turns=4)
TEACHER = policy(1, "teacher", hidden=64, layers=3, vocab=len(TOK) + 40)     # padded vocabulary

@pytest.fixture(scope="module")
def server():
    with Server(TEACHER) as s: yield s

def remote(server, **kw):
    p = RemotePolicy(server.url, kw.pop("model", "lm"), kw.pop("tok", TOK), **dict(dict(max_new_tokens=5, retries=2, timeout=20.), **kw))
    p.pause = .01
    return p

@pytest.fixture(scope="module")
def trajectories(): return RolloutMixer(policy(0), TEACHER, ENV, beta=.5, batch_size=3, seed=1)(ENV.tasks("train", 4))

@pytest.mark.parametrize("dialect", ["vllm", "old"])
def test_its_turns_are_the_models_own(dialect):
    with Server(TEACHER, dialect) as s:
        far, near = remote(s, temperature=0), policy(1, "teacher", hidden=64, layers=3, vocab=len(TOK) + 40, temperature=0)
        a, b = (RolloutMixer(policy(0), t, ENV, beta=1., batch_size=3)(ENV.tasks("train", 3)) for t in (far, near))
        for x, y in zip(a, b):
            assert [u.reply_ids for u in x.turns] == [u.reply_ids for u in y.turns] and [u.stop for u in x.turns] == [u.stop for u in y.turns]
            for u, v in zip(x.turns, y.turns): np.testing.assert_allclose(u.logprobs, v.logprobs, atol=1e-4)
        once, again = (RolloutMixer(policy(0), remote(s), ENV, beta=.5, batch_size=3, seed=4)(ENV.tasks("train", 3)) for _ in range(2))
        assert once == again, "same seed, same trajectories, where the server honours seeds"

def test_bytes_that_are_no_text_are_no_other_tokenizer():
    "A server that decodes as it goes writes such bytes otherwise than the tokenizer does; the ids are what counts."
    teacher = policy(1, "teacher", eos=None, max_new_tokens=12)
    with Server(teacher) as s:
        ts = RolloutMixer(policy(0), remote(s, max_new_tokens=12), ENV, beta=1., batch_size=3, seed=1)(ENV.tasks("train", 3))
        ids = [u.reply_ids for t in ts for u in t.turns]
        assert any(streamed(TOK, i) != TOK.decode(i) for i in ids)

@pytest.mark.parametrize("dialect", ["vllm", "old"])
def test_scores_with_every_token_are_the_full_divergence_gradient_included(trajectories, dialect):
    def run(teacher):
        student = policy(0)
        out = divergence(student, teacher, collate(rows(trajectories)))
        out.values_N.sum().backward()
        return out, [p.grad for p in student.model.parameters()]
    with Server(TEACHER, dialect) as s: far, grads_far = run(remote(s, topk=len(TOK)))
    near, grads_near = run(TEACHER)
    torch.testing.assert_close(far.values_N, near.values_N, atol=2e-4, rtol=1e-3)
    for k in near.measures: torch.testing.assert_close(far.measures[k], near.measures[k], atol=5e-4, rtol=1e-3, msg=k)
    for a, b in zip(grads_far, grads_near): torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-2)

def test_top_k_is_a_lower_bound_and_a_sampled_token_alone_is_enough(server, trajectories):
    batch = collate(rows(trajectories))
    full, some, one = (divergence(policy(0), t, batch) for t in (TEACHER, remote(server, topk=5), remote(server, topk=0)))
    assert (some.values_N <= full.values_N + 1e-3).all() and some.values_N.sum() > 0
    for x in (some, one): torch.testing.assert_close(x.measures["teacher_logprob"], full.measures["teacher_logprob"], atol=1e-4, rtol=1e-4)
    own = one.actors_N == STUDENT
    torch.testing.assert_close(one.values_N[own], (full.measures["student_logprob"] - full.measures["teacher_logprob"])[own], atol=1e-4, rtol=1e-4)
    assert "teacher_entropy" not in one.measures
    with pytest.raises(ValueError, match="choose one of reverse_kl, forward_kl, none, cross_entropy, k1, k3"): divergence(policy(0), remote(server), batch, student_turns="jsd")
    for kw in (dict(student_turns="forward_kl"), dict(teacher_turns="reverse_kl")):
        with pytest.raises(ValueError, match="topk=20"): divergence(policy(0), remote(server, topk=0), batch, **kw)

def test_a_sampled_token_gives_an_unbiased_gradient(server):
    "Averaged over the student's own choices, the gradient with topk=0 is that of the full reverse KL."
    from guided_opd.losses import reverse_kl
    from guided_opd.scoring import TeacherLogProbs, sampled_divergence
    g = torch.Generator().manual_seed(0)
    W, q = torch.randn(7, 3, generator=g), torch.randn(7, generator=g).log_softmax(-1)
    h = torch.randn(1, 1, 3, generator=g).requires_grad_()
    p = (h @ W.T).softmax(-1).detach()[0, 0]
    each = [torch.autograd.grad(sampled_divergence(h, W, TeacherLogProbs(q[i:i+1], torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0)), torch.ones(1, 1, dtype=torch.long), torch.tensor([[i]])).values_N.sum(), h)[0] for i in range(7)]
    torch.testing.assert_close(sum(a*b for a, b in zip(p, each)), torch.autograd.grad(reverse_kl(h @ W.T, q).sum(), h)[0])

def test_training_with_a_served_teacher_and_the_key_is_written_nowhere(tmp_path, monkeypatch, capsys):
    key = "-".join(["sk", "very", "secret", "4711"])      # not in the source, which a traceback shows
    monkeypatch.setenv("TEACHER_KEY", key)
    with Server(TEACHER, key=key) as s:
        teacher = remote(s, key_variable="TEACHER_KEY", concurrency=2, retries=6)
        s.faults = [503, None, "drop", None, 429, "garbage"]
        t = GuidedOPD(policy(0, eos=None), teacher, ENV, tmp_path, steps=2, rollouts_per_step=3, batch_size=3, eval_every=0, lr=1e-2, save_every=1).fit(progress=False)
        before = [m for m in t.parameters]
        assert t.step == 2 and before and s.most <= 2, "never more requests at a time than allowed"
        assert all(headers["Authorization"] == f"Bearer {key}" for _, headers in s.seen)
        s.faults = [400]
        with pytest.raises(RemoteError) as e: teacher.log_probs([[5, 6]], [[1, 0]])
        assert key not in str(e.value) and "trouble" in str(e.value)
        assert "sk-very" not in teacher._said(httpx.Response(400, text="x"*160 + f" Bearer {key}")), "replaced before it is cut"
        monkeypatch.setenv("TEACHER_KEY", f"{key}\n")
        ask(teacher)       # a line end that came along is no part of the key
        monkeypatch.setenv("TEACHER_KEY", f"{key}é")
        with pytest.raises(ValueError, match="TEACHER_KEY has characters") as c: ask(teacher)
        assert key not in str(c.value)
        monkeypatch.setenv("TEACHER_KEY", "wrong-4712")
        with pytest.raises(RemoteError, match="TEACHER_KEY") as f: teacher.log_probs([[5, 6]], [[1, 0]])
        assert "4712" not in str(f.value)
    assert key not in repr(teacher) + str(vars(teacher)) + str(e.getrepr()) + "".join(capsys.readouterr())
    for path in tmp_path.rglob("*"):
        if path.is_file(): assert key.encode() not in path.read_bytes(), path
    assert '"lm"' in (tmp_path/"config.json").read_text()

def ask(p): return p.log_probs([[5, 6, 7]], [[1, 1, 0]])

@pytest.mark.parametrize("faults, why", [(["hang"]*3, "no answer within 0.3 s"), (["drop"]*3, "no connection"), ([500, 502, 503], "HTTP 503"), (["garbage"]*3, "busy")])
def test_a_server_that_fails_on_is_named_with_the_reason(server, faults, why):
    server.faults = list(faults)
    start = time.monotonic()
    with pytest.raises(RemoteError, match="failed 3 times.*same command") as e: ask(remote(server, timeout=.3))
    assert why in str(e.value) and time.monotonic() - start < 10
    server.faults = []
    time.sleep(1.6 if "hang" in faults else 0)
    server.faults = faults[:2]                             # two failures, and the third try is good
    torch.testing.assert_close(ask(remote(server, timeout=.3 if faults[0] == "hang" else 20)).sampled_N, ask(remote(server)).sampled_N)

def test_wrong_servers_are_refused_with_what_to_change(trajectories):
    h = RolloutMixer(policy(0), None, ENV).chat.history(rng=np.random.default_rng(0)); h.observe("You are in room 0.")
    for dialect, call, why in (("plain", ask, "no prompt log-probs.*vLLM"), ("text", lambda p: p.act([h]), "no token ids.*return_token_ids"), ("shifted", lambda p: p.act([h]), "token id 1.*does not have.*family")):
        with Server(TEACHER, dialect) as s, pytest.raises(RemoteError, match=why): call(remote(s))
    with Server(TEACHER) as s:
        with pytest.raises(RemoteError, match="does not serve 'other'"): ask(remote(s, model="other"))
        words = sorted(TOK.get_vocab(), key=TOK.get_vocab().get)
        other = word_tokenizer(words[259:][::-1])              # the same ids, other words
        with pytest.raises(RemoteError, match="another tokenizer"):
            for seed in range(5): p = remote(s, tok=other); h.rng = np.random.default_rng(seed); p.act([h])
    dead = remote(s)
    with pytest.raises(RemoteError, match="no connection.*Is the server up"): ask(dead)
    for kw, why in ((dict(url="localhost:8000"), "http://localhost:8000/v1"), (dict(url="http://u:pw@h/v1"), "environment variable"), (dict(url="http://h/v1?api_key=4711"), "Leave . and #.*environment variable"), (dict(concurrency=0), "concurrency 1")):
        with pytest.raises(ValueError, match=why) as e: RemotePolicy(**{**dict(url=s.url, model="lm", tokenizer=TOK), **kw})
        assert "pw" not in str(e.value)
