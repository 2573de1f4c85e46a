"""How long episodes are in tokens: expert episodes under both protocols, with the tokenizer in a folder. python benchmarks/episode_tokens.py FOLDER

Figures in `guided_opd.plan.EPISODES` come from SmolLM2's tokenizer (make it with tests/test_real_lm.py's loader); Qwen3's makes about as many tokens of English."""
import sys, warnings

import numpy as np
from transformers import AutoTokenizer

from guided_opd.envs.base import make_env
from guided_opd.policy import ExpertPolicy
from guided_opd.protocol import PROTOCOLS
from guided_opd.rollout import RolloutMixer

warnings.simplefilter("ignore")
tok = AutoTokenizer.from_pretrained(sys.argv[1])
print("| environment | protocol | episodes | turns | first prompt | later prompts | longest prompt | reply |\n|---|---|--:|--:|--:|--:|--:|--:|")
for name, settings, n in (("alfworld", dict(size="full"), 12), ("webshop", {}, 12), ("scienceworld", dict(objects=True), 6)):
    env = make_env(name, **settings)
    for p in PROTOCOLS.values():
        ts = RolloutMixer(ExpertPolicy(env, tok), None, env, chat=p.chat(tok, env), batch_size=1, max_turns=30)(env.tasks("valid", n)[:n])
        first, later = [len(t.turns[0].prompt_ids) for t in ts], [len(u.prompt_ids) for t in ts for u in t.turns[1:]]
        print(f"| {name} | {p.name} | {len(ts)} | {np.mean([len(t.turns) for t in ts]):.1f} | {np.mean(first):.0f} | {np.mean(later):.0f} | {max(first + later*(p.name == 'paper'))} | {np.mean([len(u.reply_ids) for t in ts for u in t.turns]):.1f} |", flush=True)
