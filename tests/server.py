"A small OpenAI-compatible server over a policy, in vLLM's dialect, with faults on request; standard library only."
import json, socket, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from tokenizers.decoders import DecodeStream

from guided_opd.policy import sample


def streamed(tok, ids):
    "Text as vLLM makes it, token by token: bytes that turn out to be no text are left out or come out otherwise."
    stream, text = DecodeStream(skip_special_tokens=False), ""
    for i in ids:
        try: text += stream.step(tok._tokenizer, i) or ""
        except Exception: stream = DecodeStream(skip_special_tokens=False); text += stream.step(tok._tokenizer, i) or ""
    return text

class Server:
    def __init__(self, policy, dialect="vllm", key=None):
        self.policy, self.dialect, self.key, self.faults, self.seen, self.open, self.most = policy, dialect, key, [], [], 0, 0
        outer, lock = self, threading.Lock()
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *a): pass
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock: outer.open += 1; outer.most = max(outer.most, outer.open); outer.seen.append((body, dict(self.headers))); fault = outer.faults.pop(0) if outer.faults else None
                try:
                    if outer.key and self.headers.get("Authorization") != f"Bearer {outer.key}": return self.send(401, dict(error=f"bad key {self.headers.get('Authorization')}"))
                    if fault == "hang": time.sleep(1.5)
                    elif fault == "drop": self.connection.shutdown(socket.SHUT_RDWR); self.close_connection = True; return
                    elif fault == "garbage": return self.send(200, "<html>busy</html>")
                    elif isinstance(fault, int): return self.send(fault, dict(error=f"trouble, said to {self.headers.get('Authorization')}"))
                    elif fault == "slow": time.sleep(.1)
                    if body["model"] != "lm": return self.send(404, dict(error="no such model"))
                    with lock: answer = outer.answer(body)
                    self.send(200, dict(choices=[answer]))
                except (BrokenPipeError, ConnectionResetError): pass
                finally:
                    with lock: outer.open -= 1
            def send(self, status, body):
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler); self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs=dict(poll_interval=.02), daemon=True).start()

    def __enter__(self): return self
    def __exit__(self, *a): self.http.shutdown(); self.http.server_close()

    @torch.no_grad()
    def answer(self, body):
        p, tok, ids = self.policy, self.policy.tokenizer, list(body["prompt"])
        logits = lambda ids: p.head(p.hidden(torch.tensor([ids])))[0, :, :len(tok)]
        named = (lambda i: f"token_id:{i}") if body.get("return_tokens_as_token_ids") else (lambda i: tok.decode([i]))
        rng, said, lps = np.random.default_rng(body.get("seed")), [], []
        while len(said) < body["max_tokens"]:
            i, lp = sample(logits(ids + said)[-1:], [rng], body["temperature"])
            said.append(i.item()); lps.append(lp.item())
            if said[-1] in body.get("stop_token_ids", ()): break
        out = dict(text=streamed(tok, [i for i in said if i != tok.eos_token_id]), finish_reason="stop" if said[-1] == tok.eos_token_id else "length")
        if self.dialect == "shifted": said = [i + 10_000 for i in said]
        if body.get("logprobs") is not None and not body.get("echo"): out["logprobs"] = dict(tokens=[named(i) for i in said], token_logprobs=lps)
        if body.get("return_token_ids") and self.dialect not in ("text", "old"): out["token_ids"] = said
        if self.dialect == "text": out["logprobs"]["tokens"] = [tok.decode([i]) for i in said]
        logp = logits(ids).log_softmax(-1)
        def tops(at, k): return {**{i.item(): v.item() for v, i in zip(*logp[at - 1].topk(min(k, logp.shape[1])))}, ids[at]: logp[at - 1, ids[at]].item()}
        if body.get("prompt_logprobs") is not None and self.dialect == "vllm": out["prompt_logprobs"] = [None] + [{str(i): dict(logprob=v, rank=1, decoded_token=tok.decode([i])) for i, v in tops(at, body["prompt_logprobs"]).items()} for at in range(1, len(ids))]
        if body.get("echo") and self.dialect != "plain":
            every = ids + said
            out["logprobs"] = dict(tokens=[named(i) for i in every], token_logprobs=[None] + [logp[at - 1, ids[at]].item() for at in range(1, len(ids))] + lps,
                                   top_logprobs=[None] + [{named(i): v for i, v in tops(at, body["logprobs"]).items()} for at in range(1, len(ids))] + [{} for _ in said])
        return out
