"A teacher on vLLM's own server: the turns, the log-probs and the divergences of the same model beside the student. For machines with vLLM."
import importlib.util, os, signal, socket, subprocess, sys, time, urllib.request

import numpy as np
import pytest
import torch
from helpers import TOK, Corridor, policy

from guided_opd.losses import STUDENT
from guided_opd.remote import RemoteError, RemotePolicy
from guided_opd.rollout import RolloutMixer
from guided_opd.scoring import collate, divergence, rows
from guided_opd.trainer import GuidedOPD, read_jsonl

if not importlib.util.find_spec("vllm"): pytest.skip("needs vllm", allow_module_level=True)

ENV = Corridor(max_turns=4)
def teacher(**kw): return policy(1, "teacher", eos=None, head_dim=32, layers=3, positions=512, **kw)      # vLLM's attention on a CPU knows no head of 8

@pytest.fixture(scope="module")
def url(tmp_path_factory):
    "vLLM's server over the teacher."
    folder = tmp_path_factory.mktemp("teacher")
    teacher().model.save_pretrained(folder); TOK.save_pretrained(folder)
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    log = open(folder/"log.txt", "w")
    server = subprocess.Popen([sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", "lm", "--port", str(port), "--host", "127.0.0.1", "--dtype", "float32",
                               "--enforce-eager", "--max-model-len", "512", "--max-logprobs", "1000", "--kv-cache-memory-bytes", str(2**25)], stdout=log, stderr=log, env=os.environ | {"VLLM_NO_USAGE_STATS": "1"}, start_new_session=True)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 400
    try:
        while True:
            try: urllib.request.urlopen(url + "/health"); break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (folder/"log.txt").read_text()[-3000:]
                time.sleep(1)
        yield url + "/v1"
    finally: os.killpg(server.pid, signal.SIGTERM); server.wait()

def remote(url, **kw): return RemotePolicy(url, "lm", TOK, **dict(dict(max_new_tokens=5, max_context=512), **kw))

@pytest.fixture(scope="module")
def trajectories(): return RolloutMixer(policy(0), teacher(max_new_tokens=5), ENV, beta=.5, batch_size=3, seed=1)(ENV.tasks("train", 4))

def test_its_turns_are_the_models_own(url):
    a, b = (RolloutMixer(policy(0), t, ENV, beta=1., batch_size=3)(ENV.tasks("train", 3)) for t in (remote(url, temperature=0), teacher(max_new_tokens=5, temperature=0)))
    for x, y in zip(a, b):
        assert [(u.reply_ids, u.stop) for u in x.turns] == [(u.reply_ids, u.stop) for u in y.turns]
        for u, v in zip(x.turns, y.turns): np.testing.assert_allclose(u.logprobs, v.logprobs, atol=1e-4)
    once, again = (RolloutMixer(policy(0), remote(url), ENV, beta=.5, batch_size=3, seed=4)(ENV.tasks("train", 3)) for _ in range(2))
    assert [[u.reply_ids for u in t.turns] for t in once] == [[u.reply_ids for u in t.turns] for t in again], "same seed, same turns"

def test_every_token_the_most_likely_or_the_sampled_one(url, trajectories):
    batch = collate(rows(trajectories))
    full, every, some, one = (divergence(policy(0), t, batch) for t in (teacher(), remote(url, topk=len(TOK)), remote(url, topk=20), remote(url, topk=0)))
    torch.testing.assert_close(every.values_N, full.values_N, atol=2e-4, rtol=1e-3)
    for x in (every, some, one): torch.testing.assert_close(x.measures["teacher_logprob"], full.measures["teacher_logprob"], atol=1e-4, rtol=1e-4)
    assert (some.values_N <= full.values_N + 1e-3).all() and some.values_N.sum() > 0, "top-k is a lower bound"
    for kind in ("k1", "k3"):
        a, b = (divergence(policy(0), t, batch, student_turns=kind, teacher_turns="cross_entropy") for t in (remote(url, topk=0), teacher()))
        own = a.actors_N == STUDENT
        torch.testing.assert_close(a.values_N[own], b.values_N[own], atol=2e-4, rtol=1e-3, msg=kind)

def test_training_with_it_is_training_with_the_model_beside_the_student(url, tmp_path):
    def curve(t, name): return read_jsonl(GuidedOPD(policy(0), t, ENV, tmp_path/name, method="opd", steps=2, rollouts_per_step=3, batch_size=3, eval_every=0, lr=1e-2).fit(progress=False).run/"metrics.jsonl")[1:]
    for far, near in zip(curve(remote(url, topk=len(TOK)), "far"), curve(teacher(), "near"), strict=True): assert far["loss"] == pytest.approx(near["loss"], rel=1e-3) and far["student_tokens"] == near["student_tokens"]

def test_a_context_that_the_server_does_not_hold_is_an_error_that_says_so(url):
    with pytest.raises(RemoteError, match="refuses the request.*HTTP 400"): remote(url, max_context=4096).log_probs([[5]*600], [[1]*600])
