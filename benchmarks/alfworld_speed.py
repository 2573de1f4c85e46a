"""How fast is the ALFWorld engine? Stock TextWorld and ours play the same games with the same actions.

Run: python benchmarks/alfworld_speed.py [--games 6] [--turns 20]

One process, one thread. A step includes the admissible commands and the check for victory, since the stock engine cannot do
without them. Loading is from a game in memory to the first observation, with the domain and grammar warm on both sides; for
ours, generating the game is shown as well. While timing, the two texts are compared, so a fast wrong answer stops the run.
"""
import argparse, random, time
import textworld
from textworld.envs import PddlEnv
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from guided_opd.envs.alfworld import ALFWorld
from guided_opd.envs.alfworld_engine import Game
from guided_opd.envs.alfworld_expert import ALFWorldExpert
from guided_opd.envs.alfworld_games import make_game


class Clock(dict):
    "Sums of seconds and counts, by name."
    def __call__(self, name, f, *args):
        t = time.perf_counter()
        res = f(*args)
        s, n = self.get(name, (0, 0))
        self[name] = s+time.perf_counter()-t, n+1
        return res
    def ms(self, name): s, n = self[name]; return 1000*s/n


def stock_load(data):
    env = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)))
    env.load(data)
    return env, env.reset()

def our_load(data): game = Game(data); return game, game.reset()
def our_step(game, action): text, _ = game.act(action); return text, game.commands(), game.won


def measure(size, games, turns):
    clock = Clock()
    stock_load(make_game(f"{size}/valid/0")); our_load(make_game(f"{size}/valid/0")) # warm up
    for i in range(games):
        data = clock("our generation", make_game, f"{size}/test/{i}")
        stock, state = clock("stock load", stock_load, data)
        game, obs = clock("our load", our_load, data)
        rng, expert = random.Random(i), ALFWorldExpert()
        for _ in range(turns):
            action = expert.act(obs)
            if rng.random() < .5: action = rng.choice(game.commands())
            state, _, done = clock("stock step", stock.step, action)
            obs, commands, won = clock("our step", our_step, game, action)
            assert (obs, commands, won) == (state.feedback, state["admissible_commands"], done), "the engines disagree"
    return clock


def episodes(size, n):
    "ms per turn of whole expert episodes through the environment"
    env, turns, t = ALFWorld(size=size, games="generated"), 0, time.perf_counter()
    for task in env.tasks("valid", n):
        obs, info = env.reset(options={"task": task})
        expert = env.expert()
        while not info["success"] and info["turn"] < env.max_turns: obs, *_, info = env.step(expert.act(obs))
        turns += info["turn"]
    return 1000*(time.perf_counter()-t)/turns, n/(time.perf_counter()-t)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--games", type=int, default=6)
    p.add_argument("--turns", type=int, default=20)
    args = p.parse_args()
    print(f"{'size':8} {'':10} {'stock ms':>9} {'ours ms':>9} {'ratio':>7}")
    for size in ("compact", "full"):
        c = measure(size, args.games, args.turns)
        for what in ("step", "load"): print(f"{size:8} {what:10} {c.ms('stock '+what):9.2f} {c.ms('our '+what):9.2f} {c.ms('stock '+what)/c.ms('our '+what):7.0f}")
        per_turn, per_second = episodes(size, 60)
        print(f"{size:8} generate   {'':9} {c.ms('our generation'):9.2f}\n{size:8} env turn   {'':9} {per_turn:9.2f}         ({per_second:.0f} expert episodes a second)")
