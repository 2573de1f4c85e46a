"""Peak memory and time of the guided divergence, forward and backward, against other ways to compute it. Prints a table.

Simplified: random hidden states and heads (Qwen3 shapes: V = 151 936), one divergence for all tokens (reverse KL, β = 1 of
the generalised JSD) since the others know only one per call; peak memory counts everything above the inputs: logits,
gradients of hidden states (and of the head with --train-head), buffers. A peer that is not installed is named as not run.
Each time is the best of --repeats after a warm-up; on a CPU, memory is the process's peak above what it held before.

    python benchmarks/loss_memory.py                    # a few minutes on two CPU cores, small sizes
    python benchmarks/loss_memory.py --device cuda      # N up to 16384, 5 % to 100 % trained; about 2 minutes
    PYTHONPATH=.:trl-1.16.0-py3-none-any.whl:liger_kernel-0.8.5-py3-none-any.whl python benchmarks/loss_memory.py --device cuda
"""
import argparse, gc, os, sys, threading, time, types
from pathlib import Path
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from guided_opd.losses import UNTRAINED, STUDENT, guided_divergence, reverse_kl

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--device", default="cpu"); p.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="default: bfloat16 on a GPU, float32 on a CPU")
p.add_argument("--positions", type=lambda s: [int(x) for x in s.split(",")], help="N, e.g. 1024,4096,16384"); p.add_argument("--trained", type=lambda s: [float(x) for x in s.split(",")], help="share of them, e.g. .05,.2,1")
p.add_argument("--vocab", type=int, default=151936); p.add_argument("--hidden", type=int, help="student's width (1024: Qwen3-0.6B)"); p.add_argument("--teacher-hidden", type=int, help="teacher's width (2560: Qwen3-4B)")
p.add_argument("--train-head", action="store_true", help="the student's head is trained too"); p.add_argument("--repeats", type=int)
args = p.parse_args()
gpu = args.device.startswith("cuda")
positions, shares = args.positions or ([1024, 4096, 16384] if gpu else [512, 1024]), args.trained or ([.05, .2, 1.] if gpu else [.2, 1.])
dtype = getattr(torch, args.dtype or ("bfloat16" if gpu else "float32"))
D, Dt, V, repeats = args.hidden or (1024 if gpu else 256), args.teacher_hidden or (2560 if gpu else 256), args.vocab, args.repeats or (5 if gpu else 2)
if not gpu: torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))

# --- the ways ---------------------------------------------------------------------------------------------------

def ours(h, W, ht, Wt, mask, ids):
    n = int(mask.sum())
    return guided_divergence(h[None], W, ht[None], Wt, torch.where(mask, STUDENT, UNTRAINED)[None], ids[None], teacher_turns="reverse_kl", weights=torch.full((n,), 1/n)).loss

def dense(h, W, ht, Wt, mask, ids):
    "Logits of all positions, as a model's forward gives them, then the loss of the trained ones."
    with torch.no_grad(): t = ht @ Wt.T
    return reverse_kl((h @ W.T)[mask], t[mask]).mean()

def dense_trained(h, W, ht, Wt, mask, ids):
    "Logits of the trained positions only."
    with torch.no_grad(): t = ht[mask] @ Wt.T
    return reverse_kl(h[mask] @ W.T, t).mean()

def trl():
    import importlib.metadata as m
    try: from trl.kernels.chunked_divergence import ChunkedDivergenceFunction as F
    except Exception as e:            # trl.trainer imports datasets and more; the kernel needs one helper of it, which only DeepSpeed uses
        if "trl.trainer" not in str(e) and not isinstance(e, (ImportError, RuntimeError)): raise
        import contextlib, importlib.machinery, importlib.util, zipimport
        spec = importlib.util.find_spec("trl")
        if spec is None: raise ImportError("not installed")
        for k in [k for k in sys.modules if k.startswith("trl")]: del sys.modules[k]
        root = list(spec.submodule_search_locations)[0]
        for name, sub in (("trl", ""), ("trl.trainer", "/trainer"), ("trl.kernels", "/kernels")): sys.modules[name] = module = types.ModuleType(name); module.__path__ = [root + sub]
        sys.modules["trl.trainer.utils"] = utils = types.ModuleType("trl.trainer.utils"); utils.maybe_gather_lm_head_ctx = lambda *a: contextlib.nullcontext()
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction as F
    def f(h, W, ht, Wt, mask, ids): return F.apply(h[mask], W, None, ht[mask], Wt, None, 1.0)[0].mean()
    return f"TRL {m.version('trl')}", f

def liger():
    import importlib.metadata as m
    name = f"Liger {m.version('liger-kernel')}"
    if gpu:
        from liger_kernel.ops.fused_linear_jsd import LigerFusedLinearJSDFunction as F
        return name + " fused JSD", lambda h, W, ht, Wt, mask, ids: F.apply(h[mask], W, ht[mask], Wt, None, 1.0, -100, 1.0, None, None, None)
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
    f = LigerFusedLinearJSDLoss(weight_hard_loss=0., weight_soft_loss=1., beta=1.0, compiled=False)
    return name + " chunked JSD", lambda h, W, ht, Wt, mask, ids: f(h[mask], W, ht[mask], Wt, ids[mask])

def unsloth():
    import importlib.metadata as m
    import unsloth
    from unsloth_zoo.fused_losses.fused_linear import fused_linear_jsd as F
    return f"Unsloth {m.version('unsloth_zoo')}", lambda h, W, ht, Wt, mask, ids: F(h, W, ht, Wt, mask=mask, beta=1.0)

# --- measuring ----------------------------------------------------------------------------------------------------

def rss(): return int(Path("/proc/self/statm").read_text().split()[1])*os.sysconf("SC_PAGE_SIZE")

class Peak:
    "Peak memory above what was there at the start, bytes."
    def __enter__(self):
        gc.collect()
        if gpu: torch.cuda.empty_cache(); torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats(); self.before = torch.cuda.memory_allocated(); return self
        import ctypes
        ctypes.CDLL(None).malloc_trim(0)
        self.before, self.top, self.stop = rss(), 0, threading.Event()
        def watch():
            while not self.stop.wait(.002): self.top = max(self.top, rss())
        self.thread = threading.Thread(target=watch, daemon=True); self.thread.start()
        return self
    def __exit__(self, *_):
        if gpu: torch.cuda.synchronize(); self.bytes = torch.cuda.max_memory_allocated() - self.before; return
        self.top = max(self.top, rss()); self.stop.set(); self.thread.join(); self.bytes = self.top - self.before

def measure(f, inputs):
    "(loss, gradient of the hidden states, peak bytes, seconds)"
    h, W, *rest = inputs
    def once():
        h.grad = W.grad = None
        loss = f(h, W, *rest); loss.backward()
        return loss
    once()                                                    # compiles kernels
    with Peak() as peak: once()
    best = 1e9
    for _ in range(repeats):
        h.grad = W.grad = None
        if gpu: torch.cuda.synchronize()
        start = time.perf_counter(); once()
        if gpu: torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    loss, grad = once().item(), h.grad.float()
    h.grad = W.grad = None
    return loss, grad, peak.bytes, best

ways, missing = [("guided_divergence", ours)], []
for name, make in (("TRL", trl), ("Liger", liger), ("Unsloth", unsloth)):
    try: ways.append(make())
    except Exception as e: missing.append(f"{name} was not run: {type(e).__name__}: {' '.join(str(e).split())[:160]}")
ways += [("dense, trained positions", dense_trained), ("dense, all positions", dense)]

where = f"{torch.cuda.get_device_name()}" if gpu else f"CPU, {torch.get_num_threads()} thread(s)"
print(f"{where} · torch {torch.__version__} · {str(dtype)[6:]} · V = {V} · student width {D}, teacher width {Dt} · {'head trained' if args.train_head else 'head frozen'}\n")
for m in missing: print(m)
print("\n| N | trained | way | per-token values | peak, MB | of dense | time, ms | of dense | loss |\n|--:|--:|---|---|--:|--:|--:|--:|--:|", flush=True)
for N in positions:
    torch.manual_seed(0)
    make = lambda *s, scale: (torch.randn(*s, device=args.device)*scale).to(dtype)
    h, W, ht, Wt = make(N, D, scale=1.), make(V, D, scale=2/D**.5), make(N, Dt, scale=1.), make(V, Dt, scale=2/Dt**.5)
    h.requires_grad_(); W.requires_grad_(args.train_head)
    ids = torch.randint(0, V, (N,), device=args.device)
    for share in shares:
        mask = torch.zeros(N, dtype=torch.bool, device=args.device); mask[torch.randperm(N, device=args.device)[:max(1, round(share*N))]] = True
        lines, base, reference = [], None, None
        for name, f in ways:
            try: loss, grad, peak, seconds = measure(f, (h, W, ht, Wt, mask, ids))
            except (torch.OutOfMemoryError, RuntimeError, TypeError, AttributeError) as e:
                lines.append((name, f"{type(e).__name__}: {' '.join(str(e).split())[:80]}")); h.grad = W.grad = None
                if gpu: torch.cuda.empty_cache()
                continue
            reference = grad if reference is None else reference
            off = ((grad - reference).norm()/reference.norm()).item()
            lines.append((name, loss, peak, seconds, off))
            if name == "dense, all positions": base = peak, seconds
        for name, *x in lines:
            per_token = "yes" if name.startswith(("guided", "dense", "TRL")) else "no"
            if isinstance(x[0], str): print(f"| {N} | {share:.0%} | {name} | {per_token} | {x[0]} |"); continue
            loss, peak, seconds, off = x
            ratio = lambda a, b: f"1/{b/a:.1f}" if base and a < b else f"{a/b:.2f}" if base else "–"
            print(f"| {N} | {share:.0%} | {name} | {per_token} | {peak/1e6:.0f} | {ratio(peak, base[0]) if base else '–'} | {seconds*1e3:.1f} | {ratio(seconds, base[1]) if base else '–'} | {loss:.4f}{'' if off < .02 else f' (gradient differs by {off:.0%})'} |", flush=True)
