"How often the scripted experts solve their environments' test tasks: python benchmarks/experts.py [ENV …] [--episodes N]"
import argparse, json
from pathlib import Path
import torch
from guided_opd.chat import Chat, word_tokenizer
from guided_opd.envs.base import make_env
from guided_opd.evaluate import evaluate
from guided_opd.policy import ExpertPolicy

torch.set_num_threads(1)
SETTINGS = dict(alfworld=[{}, dict(size="full")], webshop=[{}, dict(size=200, per_page=4)], scienceworld=[{}])   # each as it comes, and as the pocket models play it

def worlds(name, recordings):
    "(description, environment, tasks) of an environment's settings."
    for settings in SETTINGS[name]:
        env = make_env(name, **settings)
        yield ", ".join(f"{k}={v}" for k, v in settings.items()) or "default", env, env.tasks("test")
    if name == "webshop" and recordings:
        load = lambda what: json.loads((recordings/what).read_text(encoding="utf-8"))
        for kind in ("synthetic", "human"):
            env = make_env(name, products=recordings/"items_shuffle_1000.json", attributes=recordings/"items_ins_v2_1000.json", human_goals=recordings/"items_human_ins.json" if kind == "human" else None,
                           goals=load("golden_goals.json")[kind], prices=load("golden_prices.json")[kind], nouns=load("noun_cache.json"))
            yield f"the original's 1000 products, {kind} goals", env, [str(i) for i in range(min(500, len(env.goals)))]

if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("envs", nargs="*", default=list(SETTINGS), choices=[*SETTINGS, []], help="environments; all if none is named")
    p.add_argument("--episodes", type=int, default=500, help="test tasks of each, at most")
    p.add_argument("--recordings", type=Path, metavar="DIR", help="WebShop: a folder with the original's catalogue, goals, prices and nouns, to play these too")
    args = p.parse_args()
    print("| environment | settings | episodes | success | Score | turns | invalid actions |\n|---|---|--:|--:|--:|--:|--:|")
    tokenizer = word_tokenizer([])
    for name in args.envs:
        for about, env, tasks in worlds(name, args.recordings):
            e, _ = evaluate(ExpertPolicy(env, tokenizer), env, tasks[:args.episodes], chat=Chat(tokenizer), batch_size=8, progress=name)
            print(f"| {name} | {about} | {e.episodes} | {e.success:.1%} ± {e.success_se:.1%} | {e.score:.3f} | {e.turns:.1f} | {e.invalid:.1%} |", flush=True)
