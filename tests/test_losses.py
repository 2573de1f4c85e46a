"Divergences and their gradients against a float64 reference in numpy, which shares no code with the package."
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from guided_opd.losses import MEASURES, STUDENT, TEACHER, UNTRAINED, forward_kl, guided_divergence, jsd, k1, k3, reverse_kl, token_weights, topk_kl

KINDS = [("reverse_kl", .5), ("forward_kl", .5), ("none", .5), *[("jsd", b) for b in (0., .1, .5, .9, 1.)]]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e/e.sum(-1, keepdims=True)

def reference(kind, student, teacher, beta=.5):
    "Value and gradient in the student's logits, float64, by hand: for J(p), dJ/dlogits = p (dJ/dp - Σ p dJ/dp)."
    V = min(student.shape[-1], teacher.shape[-1])
    p, q = softmax(student[..., :V].astype(np.float64)), softmax(teacher[..., :V].astype(np.float64))
    m = beta*q + (1 - beta)*p
    kl = lambda a, b: (a*np.log(a/b)).sum(-1)
    if kind == "jsd" and beta in (0, 1): kind = "forward_kl" if beta == 0 else "reverse_kl"
    value, slope = dict(reverse_kl=(kl(p, q), np.log(p/q)), forward_kl=(kl(q, p), -q/p), none=(0*kl(p, q), 0*p), jsd=(beta*kl(q, m) + (1 - beta)*kl(p, m), (1 - beta)*np.log(p/m)))[kind]
    grad = np.zeros(student.shape)
    grad[..., :V] = p*(slope - (p*slope).sum(-1, keepdims=True))
    return value, grad

def problem(B=3, T=7, D=5, V=11, Dt=4, Vt=11, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    r = lambda *shape: torch.randn(*shape, generator=g).to(dtype)
    actors = torch.tensor([[0, 1, 1, 0, 2, 2, 0], [0, 0, 2, 1, 1, 1, 0], [0]*7])[:B, :T]
    return r(B, T, D).requires_grad_(), r(V, D).requires_grad_(), r(B, T, Dt), r(Vt, Dt), actors, torch.randint(0, min(V, Vt), (B, T), generator=g)


@pytest.mark.parametrize("student_kind", KINDS, ids=str)
@pytest.mark.parametrize("teacher_kind", [("forward_kl", .5), ("jsd", None)], ids=str)
@pytest.mark.parametrize("padded", [0, 3, -2])
def test_every_turn_gets_its_own_divergence_with_the_exact_gradient(student_kind, teacher_kind, padded):
    (sk, beta), tk = student_kind, teacher_kind[0]
    h, W, ht, Wt, actors, ids = problem(Vt=11 + padded)
    w = torch.linspace(.2, 1.7, int((actors != 0).sum()))
    out = guided_divergence(h, W, ht, Wt, actors, ids, student_turns=sk, teacher_turns=tk, jsd_beta=beta)
    (w*out.values_N).sum().backward()

    own, where = out.actors_N.numpy() == STUDENT, actors.numpy() != 0
    x, xt = h.detach().double().numpy()[where], ht.double().numpy()[where]
    logits, t_logits = x @ W.detach().double().numpy().T, xt @ Wt.double().numpy().T
    (vs, gs), (vt, gt) = (reference(k, logits, t_logits, beta) for k in (sk, tk))
    value, grad = np.where(own, vs, vt), w.double().numpy()[:, None]*np.where(own[:, None], gs, gt)
    np.testing.assert_allclose(out.values_N.detach(), value, atol=2e-6)
    np.testing.assert_allclose(W.grad, grad.T @ x, atol=2e-6)
    expected = np.zeros(h.shape); expected[where] = grad @ W.detach().double().numpy()
    np.testing.assert_allclose(h.grad, expected, atol=2e-6)
    assert ht.grad is None and Wt.grad is None

    measured = {k: v.numpy() for k, v in out.measures.items()}
    assert list(measured) == list(MEASURES)
    V = min(logits.shape[1], t_logits.shape[1]); p, q = softmax(logits[:, :V]), softmax(t_logits[:, :V])
    token = ids.numpy()[where][:, None]
    for k, v in dict(reverse_kl=reference("reverse_kl", logits, t_logits)[0], forward_kl=reference("forward_kl", logits, t_logits)[0], student_entropy=-(p*np.log(p)).sum(-1), teacher_entropy=-(q*np.log(q)).sum(-1),
                     student_logprob=np.take_along_axis(np.log(p), token, 1)[:, 0], teacher_logprob=np.take_along_axis(np.log(q), token, 1)[:, 0]).items(): np.testing.assert_allclose(measured[k], v, atol=3e-6, err_msg=k)


@pytest.mark.parametrize("chunk", [1, 2, 3, 10, 11, 12, 10_000])
def test_the_chunk_size_is_only_about_memory(chunk):
    def run(chunk):
        h, W, ht, Wt, actors, ids = problem()
        out = guided_divergence(h, W, ht, Wt, actors, ids, chunk=chunk)
        out.values_N.square().sum().backward()
        return [out.values_N.detach(), h.grad, W.grad, *out.measures.values()]
    for a, b in zip(run(chunk), run(1024)): torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-5)

def test_heads_may_be_modules_and_parameters_behind_a_frozen_backbone():
    h, W, ht, Wt, actors, ids = problem()
    head, frozen = torch.nn.Linear(5, 11, bias=False), torch.nn.Linear(4, 11, bias=False)
    head.weight.data, frozen.weight.data = W.detach().clone(), Wt.clone()
    for chunk in (4, 1024):
        out = guided_divergence(h.detach(), head, ht, frozen, actors, chunk=chunk)
        head.weight.grad = None; out.values_N.sum().backward()
        assert set(out.measures) == set(MEASURES[:4]) and frozen.weight.grad is None
        guided_divergence(h, W, ht, Wt, actors).values_N.sum().backward()
        torch.testing.assert_close(head.weight.grad, W.grad, atol=1e-6, rtol=1e-5); W.grad = None

@pytest.mark.parametrize("who", [STUDENT, TEACHER, UNTRAINED])
def test_a_batch_of_one_actor_or_of_none(who):
    h, W, ht, Wt, actors, ids = problem()
    out = guided_divergence(h, W, ht, Wt, torch.full_like(actors, who), ids)
    loss = out.values_N.sum(); loss.backward()
    if who == UNTRAINED: assert len(out.values_N) == 0 and loss.item() == 0 and not h.grad.any() and not W.grad.any() and all(len(v) == 0 for v in out.measures.values())
    else: torch.testing.assert_close(out.values_N.detach(), out.measures["reverse_kl" if who == STUDENT else "forward_kl"])
    assert torch.isfinite(loss) and torch.isfinite(h.grad).all() and torch.isfinite(W.grad).all()

def test_bf16_models_are_compared_in_float32():
    h, W, ht, Wt, actors, ids = problem(dtype=torch.bfloat16, V=300, Vt=300)
    out = guided_divergence(h, W, ht, Wt, actors, ids)
    assert out.values_N.dtype == torch.float32 and {m.dtype for m in out.measures.values()} == {torch.float32}
    where = actors != 0
    logits, t_logits = ((a[where].double() @ b.double().T).detach().numpy() for a, b in ((h, W), (ht, Wt)))     # the logits are not rounded either
    np.testing.assert_allclose(out.measures["reverse_kl"], reference("reverse_kl", logits, t_logits)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.measures["forward_kl"], reference("forward_kl", logits, t_logits)[0], rtol=1e-5, atol=1e-5)

MIXED = dict(student_turns="reverse_kl", teacher_turns="jsd", jsd_beta=.3)

def double_grads(h, W, ht, Wt, actors, w, b=None):
    "Gradients of Σ w J in float64, by autograd through dense logits."
    h, W, ht, Wt = (x.detach().double().requires_grad_() for x in (h, W, ht, Wt))
    where = actors != 0
    s, t = h[where] @ W.T + (0 if b is None else b.double()), (ht[where] @ Wt.T).detach()
    J = torch.where(actors[where] == STUDENT, reverse_kl(s, t), jsd(s, t, .3))
    return torch.autograd.grad((w.double()*J).sum(), (h, W))

def test_the_loss_with_weights_and_the_values_have_the_same_gradient_head_included():
    for dtype, tol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        h, W, ht, Wt, actors, ids = problem(dtype=dtype, V=40, Vt=44)
        w = torch.linspace(0, 1.7, int((actors != 0).sum()), dtype=dtype)
        expected = double_grads(h, W, ht, Wt, actors, w)
        for by_loss in (True, False):
            out = guided_divergence(h, W, ht, Wt, actors, ids, weights=w if by_loss else None, chunk=3, **MIXED)
            assert (out.loss is not None) == by_loss and out.values_N.dtype == dtype
            loss = out.loss if by_loss else (w*out.values_N).sum()
            for again in (True, False):        # a second backward is exact too
                for got, want in zip(torch.autograd.grad(3*loss, (h, W), retain_graph=again), expected): torch.testing.assert_close(got.double(), 3*want, atol=tol, rtol=tol)
        both = guided_divergence(h, W, ht, Wt, actors, weights=w, **MIXED)
        for got, want in zip(torch.autograd.grad(both.loss + (w*both.values_N).sum(), (h, W)), expected): torch.testing.assert_close(got.double(), 2*want, atol=2*tol, rtol=tol)

@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_16_bit_models_are_rounded_once(dtype):
    "As close to float64 as the type allows, although thousands of probabilities lie below float16's smallest number."
    h, W, ht, Wt, actors, ids = problem(D=64, V=5000, Dt=64, Vt=5000, dtype=dtype)
    w = torch.full((8,), 1e-4)                      # as small as the weight of a token in a batch of 10 000
    expected = double_grads(h, W, ht, Wt, actors, w)
    out = guided_divergence(h, W, ht, Wt, actors, ids, weights=w, **MIXED)
    (1e4*out.loss).backward()
    for got, want in zip((h.grad, W.grad), expected):
        assert got.dtype == dtype
        assert (got.double() - 1e4*want).norm() < (.004 if dtype == torch.bfloat16 else .0006)*(1e4*want).norm()

def test_autocast_multiplies_in_its_type_and_sums_in_float32():
    h, W, ht, Wt, actors, ids = problem(D=32, V=500, Dt=32, Vt=500)
    w = torch.full((8,), 1/8)
    with torch.autocast("cpu", torch.bfloat16): out = guided_divergence(h, W, ht, Wt, actors, ids, weights=w, **MIXED)
    out.loss.backward()
    assert out.values_N.dtype == h.grad.dtype == W.grad.dtype == torch.float32
    rounded = guided_divergence(h.bfloat16(), W.bfloat16(), ht, Wt, actors, ids, **MIXED)
    torch.testing.assert_close(out.values_N, rounded.values_N)
    for got, want in zip((h.grad, W.grad), double_grads(h.bfloat16(), W.bfloat16(), ht, Wt, actors, w)): assert (got.double() - want).norm() < .006*want.norm()

@pytest.mark.parametrize("trained_head", [False, True])
def test_nothing_of_the_size_of_the_logits_is_kept_for_the_backward_pass(trained_head):
    h, W, ht, Wt, _, _ = problem(B=1, T=1, V=3000, Vt=3000)
    h, ht, actors = h.detach().expand(2, 300, -1).clone().requires_grad_(), ht.expand(2, 300, -1), torch.arange(600).view(2, 300) % 3
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x.numel()), x)[1], lambda x: x):
        out = guided_divergence(h, W if trained_head else W.detach(), ht, Wt, actors, weights=torch.ones(400), **MIXED)
    assert len(out.values_N) == 400 and sum(kept) < 3000*5 + 400*20 < 400*3000/20

def test_heads_of_any_kind():
    "A LoRA adapter on the head, a head that is a function, one in 8 bits: the same numbers as the matrix that they stand for."
    from peft import LoraConfig, get_peft_model
    h, W, ht, Wt, actors, ids = problem(D=16, V=50, Dt=16, Vt=50)
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.head = torch.nn.Linear(16, 50)
        def forward(self, x): return self.head(x)
    torch.manual_seed(0)
    head = get_peft_model(Net(), LoraConfig(r=2, target_modules=["head"], init_lora_weights=False)).base_model.model.head
    lora = head.lora_A["default"].weight, head.lora_B["default"].weight
    scale = torch.randn(50, 1).abs()/100
    class Int8(torch.nn.Module):
        def forward(self, x): return x @ ((W.detach()/scale).round().clamp(-127, 127)*scale).T
    w = torch.linspace(.1, 1, 8)
    for f, params in ((head, lora), (Int8(), ())):
        for chunk in (3, None):
            out = guided_divergence(h, f, ht, Int8(), actors, ids, weights=w, chunk=chunk, **MIXED)
            where = actors != 0
            s, t = f(h[where]).double(), Int8()(ht[where]).double()
            J = torch.where(actors[where] == STUDENT, reverse_kl(s, t), jsd(s, t, .3))
            torch.testing.assert_close(out.values_N.double(), J, atol=1e-5, rtol=1e-5)
            assert list(out.measures) == list(MEASURES)
            for got, want in zip(torch.autograd.grad(out.loss, (h, *params)), torch.autograd.grad((w*J).sum(), (h, *params))): torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    linear = torch.nn.Linear(16, 50)             # a bias is part of the head
    out = guided_divergence(h, linear, ht, Wt, actors, ids, weights=w, **MIXED)
    got = torch.autograd.grad(out.loss, (h, linear.weight, linear.bias))
    s = linear(h[where]).double(); J = torch.where(actors[where] == STUDENT, reverse_kl(s, (ht[where] @ Wt.T).double()), jsd(s, (ht[where] @ Wt.T).double(), .3))
    for a, b in zip(got, torch.autograd.grad((w*J).sum(), (h, linear.weight, linear.bias))): torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)

def test_gradient_checkpointing_of_the_backbone_changes_nothing():
    from helpers import policy
    grads = []
    for checkpointing in (False, True):
        lm = policy(0, eos=None).model.train()
        if checkpointing: lm.gradient_checkpointing_enable()
        ids = torch.arange(24).view(2, 12) + 5
        hidden = lm.model(input_ids=ids, use_cache=False).last_hidden_state
        actors = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 2, 2, 0, 0]).expand(2, -1)
        with torch.no_grad(): teacher = lm.model(input_ids=ids.flip(1), use_cache=False).last_hidden_state
        guided_divergence(hidden, lm.lm_head, teacher, lm.lm_head, actors, weights=torch.full((10,), .1)).loss.backward()
        grads.append([p.grad for p in lm.parameters()])
    for a, b in zip(*grads): torch.testing.assert_close(a, b)
    assert all(g.any() for g in grads[0])

@pytest.mark.parametrize("student_kind,teacher_kind", [("k1", "cross_entropy"), ("k3", "forward_kl"), ("reverse_kl", "cross_entropy"), ("k1", "k3")])
def test_divergences_of_the_sampled_token_have_their_value_and_their_slope(student_kind, teacher_kind):
    for head in (lambda W: W, lambda W: lambda x: x @ W.T):      # a weight, and a head that can only be called
        h, W, ht, Wt, actors, ids = problem(V=40, Vt=44, dtype=torch.float64)
        w = torch.linspace(.1, 1.7, int((actors != 0).sum()), dtype=torch.float64)
        out = guided_divergence(h, head(W), ht, Wt, actors, ids, student_turns=student_kind, teacher_turns=teacher_kind, weights=w, chunk=3)
        out.loss.backward()
        where = actors != 0
        h2, W2 = h.detach().clone().requires_grad_(), W.detach().clone().requires_grad_()
        s, t = h2[where] @ W2.T, (ht[where] @ Wt.T)[:, :40]
        p, q = (x.log_softmax(-1).gather(-1, ids[where][:, None])[:, 0] for x in (s, t))
        d = q - p
        of = dict(reverse_kl=(x := reverse_kl(s, t), x), forward_kl=(x := forward_kl(s, t), x), cross_entropy=(-p, -p), k1=(-d, (-d).detach()*p), k3=(d.exp() - 1 - d, d.exp() - 1 - d))
        pick = lambda i: torch.where(actors[where] == STUDENT, of[student_kind][i], of[teacher_kind][i])
        torch.testing.assert_close(out.values_N, pick(0))
        for a, b in zip((h.grad, W.grad), torch.autograd.grad((w*pick(1)).sum(), (h2, W2))): torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)

def test_the_triton_kernels_are_the_pytorch_formulas():
    if not torch.cuda.is_available(): pytest.skip("needs a GPU")
    from guided_opd import kernels
    if kernels.triton is None: pytest.skip("needs triton")
    for dtype, tol in ((torch.float32, 1e-4), (torch.bfloat16, .006), (torch.float16, .002)):
        h, W, ht, Wt, actors, ids = (x.detach().cuda() for x in problem(D=64, V=9001, Dt=64, Vt=9010, dtype=dtype))
        h.requires_grad_(); W.requires_grad_()
        w = torch.linspace(.1, 1, 8, device="cuda")
        for kinds in (MIXED, {}, dict(student_turns="none", teacher_turns="reverse_kl")):
            fast = guided_divergence(h, W, ht, Wt, actors, ids, weights=w, **kinds)
            slow = guided_divergence(*(x.detach().cpu().float() for x in (h, W, ht, Wt)), actors.cpu(), ids.cpu(), **kinds)
            torch.testing.assert_close(fast.values_N.cpu(), slow.values_N, atol=1e-4, rtol=1e-3 if dtype != torch.float32 else 1e-2)      # TF32 may be on
            for k in MEASURES: torch.testing.assert_close(fast.measures[k].cpu(), slow.measures[k], atol=1e-3, rtol=1e-2)
            if kinds is MIXED:
                for got, want in zip(torch.autograd.grad(fast.loss, (h, W)), double_grads(h, W, ht, Wt, actors, w)): assert (got.double() - want).norm() < tol*want.norm()

@pytest.mark.parametrize("f", [reverse_kl, forward_kl, jsd, lambda s, t: jsd(s, t, .1)])
def test_confident_models_give_finite_values_and_gradients(f):
    s, t = torch.tensor([[0., 1e4, -1e4], [80., 0., 0.], [0., 0., 0.]], requires_grad=True), torch.tensor([[1e4, 0., -1e4], [80., 0., 0.], [-300., 0., 300.]])
    f(s, t).sum().backward()
    assert torch.isfinite(f(s, t)).all() and torch.isfinite(s.grad).all() and f(s, t)[1].abs() < 1e-6

logits = st.integers(0, 2**31).flatmap(lambda seed: st.tuples(st.just(seed), st.integers(2, 40), st.floats(.01, 6)))
def draw(seed, V, scale, n=4):
    g = torch.Generator().manual_seed(seed)
    return (scale*torch.randn(n, V, generator=g, dtype=torch.float64) for _ in range(2))

@settings(max_examples=40, deadline=None)
@given(logits)
def test_divergences_are_divergences(l):
    s, t = draw(*l)
    for f in (reverse_kl, forward_kl, jsd):
        assert (f(s, t) > -1e-12).all() and f(s, s).abs().max() < 1e-12
        torch.testing.assert_close(f(s + 7, t - 3), f(s, t))
    torch.testing.assert_close(reverse_kl(s, t), forward_kl(t, s))
    torch.testing.assert_close(jsd(s, t, .3), jsd(t, s, .7))
    assert (jsd(s, t) <= np.log(2) + 1e-9).all()

@settings(max_examples=40, deadline=None)
@given(logits)
def test_estimates_from_samples_and_from_a_top_k(l):
    s, t = draw(*l)
    p, q = s.log_softmax(-1), t.log_softmax(-1)
    full = reverse_kl(s, t)
    for f in (k1, k3): torch.testing.assert_close((p.exp()*f(p, q)).sum(-1), full, atol=1e-9, rtol=1e-9)  # the mean over the sampler's own tokens
    assert (k3(p, q) >= 0).all() and (k3(p, p) == 0).all()
    for direction, full in (("reverse", reverse_kl(s, t)), ("forward", forward_kl(s, t))):
        last = torch.full((4,), -1e-3)
        for k in sorted({1, p.shape[-1]//2, p.shape[-1]}):
            top = q.topk(k, -1)
            part = topk_kl(s, top.indices, top.values, direction)
            assert (part >= last - 2e-3).all() and (part <= full + 2e-3).all()
            last = part
        torch.testing.assert_close(part, full, atol=2e-3, rtol=1e-3)  # all tokens: nothing is left out

@given(st.lists(st.integers(0, 30), max_size=12), st.sampled_from(["token", "turn"]))
def test_weights_sum_to_one_and_empty_turns_weigh_nothing(lengths, normalisation):
    w = token_weights(lengths, normalisation)
    assert abs(sum(a*n for a, n in zip(w, lengths)) - (1 if any(lengths) else 0)) < 1e-9
    assert all(a == 0 for a, n in zip(w, lengths) if n == 0)
    shares = {round(a*n, 9) if normalisation == "turn" else round(a, 9) for a, n in zip(w, lengths) if n}
    assert len(shares) <= 1

def test_splitting_a_batch_does_not_change_the_gradient():
    def grads(split):
        h, W, ht, Wt, actors, ids = problem()
        w = iter(torch.linspace(.1, 2, int((actors != 0).sum())).split([int((actors[rows] != 0).sum()) for rows in split]))
        for rows in split: (next(w)*guided_divergence(h[rows], W, ht[rows], Wt, actors[rows], ids[rows]).values_N).sum().backward()
        return h.grad, W.grad
    for a, b in zip(grads([[0], [1], [2]]), grads([[0, 1, 2]])): torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)

def test_wrong_settings_are_refused_with_the_choices():
    h, W, ht, Wt, actors, ids = problem()
    with pytest.raises(ValueError, match="reverse_kl, forward_kl, jsd, none"): guided_divergence(h, W, ht, Wt, actors, student_turns="kl")
    with pytest.raises(ValueError, match="k1 looks at the tokens that were sampled"): guided_divergence(h, W, ht, Wt, actors, student_turns="k1")
    with pytest.raises(ValueError, match="0..1"): jsd(W, W, 1.5)
    with pytest.raises(ValueError, match="0..1"): guided_divergence(h, W, ht, Wt, actors, student_turns="jsd", jsd_beta=2)
    with pytest.raises(ValueError, match="'token' or 'turn'"): token_weights([1], "mean")
    with pytest.raises(ValueError, match="'forward' or 'reverse'"): topk_kl(W, ids, ids, "both")
