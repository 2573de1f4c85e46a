"Our ALFWorld engine against stock TextWorld, step by step: text, admissible commands, outcome."
import contextlib, io, json, random
import pytest

textworld = pytest.importorskip("textworld")
from textworld.envs import PddlEnv
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredTWEnv
from guided_opd.envs.alfworld import ALFWorld, export_games, shortest_plan
from guided_opd.envs.alfworld_engine import Game
from guided_opd.envs.alfworld_expert import ALFWorldExpert
from guided_opd.envs.alfworld_games import TASK_TYPES, make_game

INVALID = ("dance", "", "go to fridge 99", "take everything", "put apple 1 in/on fridge 1", "Look", "help me")


def stock_env(game):
    env = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)))
    env.load(game)
    return env


def compare(task, turns, seed=0):
    "A walk of random, invalid and expert actions, ended by the expert's solution."
    data = make_game(task)
    stock, game, rng, expert = stock_env(data), Game(data), random.Random(f"{task}/{seed}"), ALFWorldExpert()
    state, obs, seen = stock.reset(), game.reset(), set()
    assert obs == state.feedback
    assert game.commands() == state["admissible_commands"]
    for turn in range(turns+50):
        action = expert.act(obs)
        if turn < turns and rng.random() < .75:
            fresh = [c for c in game.commands() if c.split()[0] not in seen]
            action = rng.choice(INVALID) if rng.random() < .1 else rng.choice(fresh or game.commands())
        seen.add(action.split(" ")[0])
        state, score, done = stock.step(action)
        obs, valid = game.act(action)
        assert obs == state.feedback, (task, turn, action)
        assert game.commands() == state["admissible_commands"], (task, turn, action)
        assert (game.won, game.won, float(game.won)) == (done, state["won"], score), (task, turn, action)
        assert valid == (state.feedback != "Nothing happens."), (task, turn, action)
        if game.won and turn >= turns: break
    assert game.won
    return seen


def test_compact_games_of_every_type():
    seen = set()
    for i in range(6): seen |= compare(f"compact/{'train' if i%2 else 'test'}/{i}", turns=30)
    assert seen >= {"go", "open", "close", "take", "move", "examine", "look", "inventory", "help", "use", "clean", "heat", "cool"}
    assert seen & {"dance", "", "put", "Look"}


@pytest.mark.parametrize("task", ["full/train/4", "full/test/5"])
def test_full_games(task): compare(task, turns=12)


def test_slicing():
    "Knives are rarely at hand, so look for a kitchen that has one, and a tomato where it can be laid down."
    for i in range(3, 6000, 6):
        game = Game(make_game(f"compact/train/{i}"))
        where = {game.entities[o].name: game.entities[r].name for o, r in game.facts["inreceptacle"]}
        if "knife 1" in where and where.get("tomato 1", "").startswith(("countertop", "sinkbasin", "diningtable")): break
    stock, said = stock_env(make_game(f"compact/train/{i}")), []
    stock.reset()
    there = where["tomato 1"]
    for action in (f"go to {where['knife 1']}", f"open {where['knife 1']}", f"take knife 1 from {where['knife 1']}", f"go to {there}", "slice tomato 1 with knife 1",
                   "slice tomato 1 with knife 1", f"move knife 1 to {there}", f"take tomato 1 from {there}", "examine tomato 1"):
        state, *_ = stock.step(action)
        said.append(game.act(action)[0])
        assert (said[-1], game.commands()) == (state.feedback, state["admissible_commands"]), action
    assert said[4] == "You sliced the tomato 1 with the knife 1." and said[-1] == "This is a sliced tomato 1."


def test_plans_are_no_longer_than_fast_downwards():
    for i in range(6):
        data = make_game(f"compact/valid/{i}")
        env = AlfredDemangler(PddlEnv(textworld.EnvInfos(policy_commands=True, admissible_commands=True)))
        env.load(data)
        assert len(shortest_plan(Game(data))) <= len(env.reset()["policy_commands"])


def test_stock_alfworld_plays_exported_games(tmp_path):
    "AlfredTWEnv finds them, and its own handcoded expert wins one."
    export_games(tmp_path, n=6, split="train", size="compact")
    config = dict(env=dict(goal_desc_human_anns_prob=0, task_types=[1, 2, 3, 4, 5, 6], domain_randomization=False, expert_type="handcoded"),
                  dataset=dict(data_path=str(tmp_path/"json_2.1.1"/"train"), num_train_games=-1, num_eval_games=-1),
                  general=dict(training_method="dagger"), dagger=dict(training=dict(max_nb_steps_per_episode=50)))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): stock = AlfredTWEnv(config)
    assert stock.num_games == 6 and {f.split("/")[-3].split("-")[0] for f in stock.game_files} == set(TASK_TYPES)
    for path in stock.game_files[:2]:
        env = textworld.start(path, textworld.EnvInfos(won=True), wrappers=[AlfredDemangler()])
        env.reset()
        for command in json.load(open(path))["walkthrough"]: state, score, done = env.step(command)
        assert done and state["won"] and score == 1
