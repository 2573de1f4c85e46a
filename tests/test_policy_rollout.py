"Roll-outs: caches are exact and cheap, seeds are seeds, and no reply, task or context length breaks an episode."
import copy, math
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import TOK, WORDS, Corridor, policy, tokenizer

from guided_opd.chat import Chat, end_of_turn_id, word_tokenizer
from guided_opd.envs.base import make_env
from guided_opd.policy import ExpertPolicy, HFPolicy, HumanPolicy, Policy, Reply
from guided_opd.rollout import RolloutMixer
from guided_opd.trajectory import Trajectory

ENV = Corridor()
TASKS = ENV.tasks("train", 7)
actors = lambda ts: [[turn.actor for turn in t.turns] for t in ts]

@pytest.fixture(scope="module")
def pair(): return policy(0), policy(1, "teacher", hidden=64, layers=3)

@pytest.fixture(scope="module")
def alfworld(): return make_env("alfworld", games="generated", max_turns=4)

def plain_logprobs(p, t):
    "Log-probs of every reply token of a trajectory from forwards of the bare transformers model, no cache."
    out, context = [], []
    for turn in t.turns:
        context = turn.prompt_ids if t.history == "window" else context + turn.prompt_ids
        with torch.no_grad(): logp = (p.model(torch.tensor([context + turn.reply_ids])).logits[0].double()/(p.temperature or 1)).log_softmax(-1)
        out.append([logp[len(context) - 1 + i, token].item() for i, token in enumerate(turn.reply_ids)])
        context = context + turn.reply_ids
    return out

@pytest.mark.parametrize("kind", ["transcript", "window"])
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("world", ["corridor", "alfworld"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_cached_turn_equals_a_plain_forward(pair, alfworld, kind, batch_size, world, in_place, monkeypatch):
    monkeypatch.setattr(HFPolicy, "steps_in_place", in_place)       # True is what a GPU does, where it is captured as a graph as well
    env, tasks = (ENV, TASKS) if world == "corridor" else (alfworld, alfworld.tasks("train", 6))
    student, teacher = pair
    ts = RolloutMixer(student, teacher, env, beta=.5, chat=Chat(TOK, kind, window=1, instructions="Go."), batch_size=batch_size, seed=3)(tasks)
    assert [t.task for t in ts] == tasks and {a for x in actors(ts) for a in x} == {"student", "teacher"} and {t.history for t in ts} == {kind}
    stops = Counter(turn.stop for t in ts for turn in t.turns)
    assert stops["eos"] and stops["length"], "both whole and cut replies are in this test"
    if world == "corridor": assert len({len(t.turns) for t in ts}) > 1, "episodes of several lengths, so that slots are filled again"
    for t in ts:
        for turn, s, c in zip(t.turns, plain_logprobs(student, t), plain_logprobs(teacher, t)):
            np.testing.assert_allclose(turn.logprobs, s if turn.actor == "student" else c, atol=2e-5)
            assert (turn.reply_ids[-1] == TOK.eos_token_id) == (turn.stop == "eos") and len(turn.reply_ids) <= 5 and TOK.eos_token_id not in turn.reply_ids[:-1]

def test_a_turn_ends_where_the_chat_template_ends_it():
    "Gemma's and Phi-3's end-of-turn tokens are not their tokenizers' eos_token; one that stands nowhere in the template is left alone."
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    phi = word_tokenizer(WORDS, specials=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "</s>"))
    phi.chat_template = template
    end = phi.convert_tokens_to_ids("<|end|>")
    assert phi.eos_token == "</s>" and end_of_turn_id(phi) == end
    plain = word_tokenizer(WORDS)
    plain.chat_template = template.replace("<|end|>", "")
    assert end_of_turn_id(plain) == plain.eos_token_id
    student, chat = policy(tok=phi), Chat(phi, instructions="Go.")
    student.model.lm_head.bias.data[[end, phi.eos_token_id]] = torch.tensor([2., -8.])
    ts = RolloutMixer(student, ExpertPolicy(ENV, phi), ENV, beta=.5, chat=chat, batch_size=4)(TASKS)
    assert {turn.stop for t in ts for turn in t.turns if turn.actor == "student"} == {"eos", "length"}
    for t in ts:
        for turn in t.turns: assert (turn.reply_ids[-1] == end) == (turn.stop == "eos") and end not in turn.reply_ids[:-1] and "<|end|>" not in turn.action
        said = [m for turn in t.turns for m in (dict(role="user", content=turn.observation), dict(role="assistant", content=chat.text(turn.reply_ids)))]
        whole = phi.decode([i for turn in t.turns for i in turn.prompt_ids + turn.reply_ids])
        assert phi.apply_chat_template([dict(role="system", content="Go."), *said], tokenize=False).startswith(whole), "a whole reply is closed once, a cut one too"

@pytest.mark.parametrize("temperature", [.3, 1.7])
def test_logprobs_are_of_the_distribution_that_was_sampled(temperature):
    student = policy(temperature=temperature)
    for t in RolloutMixer(student, None, ENV, batch_size=4)(TASKS):
        for turn, lp in zip(t.turns, plain_logprobs(student, t)): np.testing.assert_allclose(turn.logprobs, lp, atol=2e-5)

def test_a_turn_costs_only_its_own_new_tokens(pair):
    student, teacher = pair
    fed = Counter()
    hooks = [p.lm.get_decoder().register_forward_pre_hook(lambda m, args, kw, name=p.name: fed.update({name: kw["input_ids"].numel()}), with_kwargs=True) for p in pair]
    try: ts = [t for i, task in enumerate(TASKS) for t in RolloutMixer(student, teacher, ENV, beta=.5, batch_size=1, seed=i)([task])]
    finally: [h.remove() for h in hooks]
    need = Counter()
    for t in ts:   # each model reads every token once, up to the last one that it had to know
        end, last = 0, {}
        for turn in t.turns: end += len(turn.prompt_ids) + len(turn.reply_ids); last[turn.actor] = end - 1
        need.update(last)
    assert fed == need
    assert sum(len(t.ids()) for t in ts) > max(need.values()) and sum(len(t.turns) for t in ts) > 2*len(ts)

def test_same_seed_same_trajectories_and_the_coins_do_not_depend_on_models_or_batches(pair):
    student, teacher = pair
    make = lambda **kw: RolloutMixer(kw.pop("student", student), kw.pop("teacher", teacher), ENV, beta=.5, **dict(dict(batch_size=3, seed=5), **kw))
    ts = make()(TASKS)
    mixer = make(student=policy(0), teacher=policy(1, "teacher", hidden=64, layers=3))
    assert (mixer(TASKS), mixer(TASKS)) == (ts, ts), "other objects of the same weights, and a mixer that is used again"
    assert make(seed=6)(TASKS[:2]) != ts[:2] and make()(TASKS[:2], step=1) != ts[:2]
    assert [t.step for t in make()(TASKS[:2], step=4)] == [4]*2 and {t.seed for t in ts} == {5}
    other = make(student=policy(7), batch_size=7)(TASKS)
    assert all(a[:n] == b[:n] for a, b in zip(actors(ts), actors(other)) for n in [min(len(a), len(b))])
    assert len({str(t.turns) for t in make()([TASKS[0]]*4)}) == 4, "the same task again is another sample"

def test_beta_0_and_1_and_by_turn(pair):
    mixer = RolloutMixer(*pair, ENV, beta=.5, batch_size=4)
    for beta, who in ((0., "student"), (1., "teacher")):
        ts = mixer(TASKS, beta=beta)
        assert {a for x in actors(ts) for a in x} == {who} and {t.beta for t in ts} == {beta}
    ts = mixer(TASKS, beta=lambda turn: float(turn >= 2))
    for t, a in zip(ts, actors(ts)):
        assert a == (["student"]*2 + ["teacher"]*4)[:len(a)]
        assert t.beta == pytest.approx(max(0, len(a) - 2)/len(a))

class Parrot(Policy):
    "Says the same ids in every turn."
    def __init__(self, ids, name="student"): self.ids, self.name, self.tokenizer = ids, name, TOK
    def act(self, histories): return [Reply(list(self.ids), [0.]*len(self.ids), "eos") for _ in histories]

@pytest.mark.parametrize("beta", [.1, .5, .8])
def test_the_teacher_takes_its_share_of_the_turns(beta):
    say = TOK.encode("hm", add_special_tokens=False) + [TOK.eos_token_id]
    ts = RolloutMixer(Parrot(say), Parrot(say, "teacher"), Corridor(max_turns=12), beta=beta, batch_size=50)(["train/9"]*200)
    flat = [a == "teacher" for x in actors(ts) for a in x]
    assert len(flat) > 1000 and abs(np.mean(flat) - beta) < 4.5*math.sqrt(beta*(1 - beta)/len(flat))
    pairs = [(a == "teacher", b == "teacher") for x in actors(ts) for a, b in zip(x, x[1:])]     # independent from turn to turn
    assert abs(np.mean([a and b for a, b in pairs]) - beta**2) < 4.5*math.sqrt(beta**2*(1 - beta**2)/len(pairs)) + .01

@pytest.mark.parametrize("kind", ["transcript", "window"])
def test_a_full_context_ends_the_episode_and_says_so(kind):
    student, teacher = policy(0, eos=-9., max_context=300), policy(1, "teacher", max_context=260)
    env = Corridor(max_turns=30)
    ts = RolloutMixer(student, teacher, env, beta=.3, chat=Chat(TOK, kind, window=9), batch_size=3)(["train/9"]*4 + ["train/3"])
    assert "context" in {t.ended for t in ts} and all(t.truncated for t in ts if t.ended == "context")
    for t in ts:
        for turn in t.turns: assert len(turn.prompt_ids) < 260
        if kind == "transcript" and t.ended == "context": assert max(student.max_context, 260) > len(t.ids()) and t.final_observation
    last = [t.turns[-1] for t in ts if t.ended == "context"]
    assert all(turn.reply_ids for turn in last)
    tiny = RolloutMixer(policy(0, max_context=20), None, env, batch_size=2)(TASKS[:3])       # not even the task fits
    assert [(t.ended, t.turns, t.score) for t in tiny] == [("context", [], 0.)]*3
    assert Trajectory.from_json(tiny[0].to_json()) == tiny[0]

def test_the_last_reply_is_cut_where_the_context_ends():
    student = policy(0, eos=-9.)
    n = len(RolloutMixer(student, None, ENV, max_turns=1)(TASKS[:1])[0].turns[0].prompt_ids)
    for room in (1, 2, 4):
        student.max_context = n + room
        t = RolloutMixer(student, None, ENV)(TASKS[:1])[0]
        assert len(t.turns) == 1 and len(t.turns[0].reply_ids) == room and t.turns[0].stop == "length" and t.ended == "context"

@pytest.mark.parametrize("batch_size", [1, 3])
def test_one_turn_is_enough(pair, batch_size):
    ts = RolloutMixer(*pair, ENV, beta=.5, max_turns=1, batch_size=batch_size)(TASKS)
    assert [len(t.turns) for t in ts] == [1]*7 and {t.ended for t in ts} == {"max_turns"}
    ts = RolloutMixer(*pair, Corridor(max_turns=1), beta=.5, batch_size=batch_size)(TASKS)
    assert [len(t.turns) for t in ts] == [1]*7 and all(t.truncated for t in ts)
    assert RolloutMixer(*pair, ENV, beta=.5)([]) == []

def test_an_unknown_task_is_named(pair, alfworld):
    for env, task in ((ENV, "train/none"), (alfworld, "compact/train/none"), (alfworld, "nowhere"), (alfworld, None), (alfworld, 3)):
        with pytest.raises(ValueError, match=".") as e: RolloutMixer(pair[0], None, env)([task] if task is not None else ["official/no/such"])
        assert str(task or "official/no/such") in str(e.value)

def test_empty_and_never_ending_replies(alfworld):
    silent, endless = policy(0, eos=1e4), policy(0, eos=-1e4, max_new_tokens=3)
    for env, tasks in ((ENV, TASKS), (alfworld, alfworld.tasks("train", 3))):
        for t in RolloutMixer(silent, None, env, batch_size=2)(tasks):
            assert {(turn.reply, turn.action, tuple(turn.reply_ids), turn.valid) for turn in t.turns} == {("", "", (TOK.eos_token_id,), False)}
        for t in RolloutMixer(endless, None, env, batch_size=2)(tasks):
            assert {(len(turn.reply_ids), turn.stop) for turn in t.turns} == {(3, "length")}
            assert all(TOK.decode(turn.prompt_ids).startswith("<|im_end|>") for turn in t.turns[1:]), "a cut reply is closed before the next observation"
        for t in RolloutMixer(Parrot([]), None, env)(tasks): assert all(turn.reply_ids == [] and turn.action == "" for turn in t.turns) and len(t.turns) > 1

def test_a_users_own_environment_may_be_any_gymnasium_env(pair):
    class Numpy(Corridor):     # what comes out of numpy is written to JSON all the same
        def step(self, action):
            obs, r, done, cut, info = super().step(action)
            return obs, np.float32(r), np.bool_(done), np.bool_(cut), dict(score=np.float32(info["score"]), success=np.bool_(info["success"]), valid=np.bool_(info["valid"]))
        def reset(self, **kw): return super().reset(**kw)[0], {}
    env = Numpy()
    assert not hasattr(env, "copy") and not hasattr(env, "name")
    ts = RolloutMixer(*pair, env, beta=.5, batch_size=3)(TASKS)
    assert {t.env for t in ts} == {"Numpy"} and [Trajectory.from_json(t.to_json()) for t in ts] == ts
    assert [[u.reply_ids for u in t.turns] for t in RolloutMixer(*pair, ENV, beta=.5, batch_size=3)(TASKS)] == [[u.reply_ids for u in t.turns] for t in ts]
    class Bare(Corridor):
        def step(self, action): return *super().step(action)[:4], dict(score=1.)
    with pytest.raises(ValueError, match="'success', 'valid'"): RolloutMixer(*pair, Bare(), beta=.5)(TASKS)

def test_greedy_equals_transformers_own_generate():
    for seed in range(4):
        student = policy(seed, temperature=0, max_new_tokens=12)
        for t in RolloutMixer(student, None, ENV, batch_size=3)(TASKS[:3]):
            turn = t.turns[0]
            ids = torch.tensor([turn.prompt_ids])
            out = student.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
            assert out[0, ids.shape[1]:].tolist() == turn.reply_ids

def test_a_peft_model_acts_with_its_adapters():
    from peft import LoraConfig, get_peft_model
    base = policy(0)
    torch.manual_seed(1)
    p = HFPolicy(get_peft_model(copy.deepcopy(base.model), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")).eval(), TOK, max_new_tokens=5)
    ts = RolloutMixer(p, None, ENV, batch_size=3)(TASKS)
    for t in ts:
        for turn, lp in zip(t.turns, plain_logprobs(p, t)): np.testing.assert_allclose(turn.logprobs, lp, atol=2e-5)
    assert ts != RolloutMixer(base, None, ENV, batch_size=3)(TASKS)
    ids = torch.tensor([ts[0].ids()])
    with torch.no_grad(): torch.testing.assert_close(p.head(p.hidden(ids)), p.model(ids).logits)

def test_training_mode_and_weights_are_left_as_they_were(pair):
    student = policy(0)
    student.model.train(); before = copy.deepcopy(student.model.state_dict())
    RolloutMixer(student, None, ENV)(TASKS[:2])
    assert student.model.training and all(torch.equal(v, before[k]) for k, v in student.model.state_dict().items())

def test_ids_outside_the_tokenizer_are_never_said():
    padded = policy(0, vocab=len(TOK) + 50, temperature=1.)
    padded.head.bias.data[len(TOK):] = 9.
    for t in RolloutMixer(policy(0), padded, ENV, beta=.7, batch_size=3)(TASKS): assert max(t.ids()) < len(TOK)
    more = tokenizer(); more.add_tokens([f"<new{i}>" for i in range(50)])                # a teacher that knows more words says only those that the student can read
    padded = policy(0, "teacher", tok=more, vocab=len(TOK) + 50)
    padded.head.bias.data[len(TOK):] = 9.
    for t in RolloutMixer(policy(0), padded, ENV, beta=.7, batch_size=3)(TASKS): assert max(t.ids()) < len(TOK)

def test_who_may_be_mixed_is_checked_before_the_first_turn(pair):
    student, teacher = pair
    with pytest.raises(ValueError, match="different tokenizers"): RolloutMixer(student, policy(1, "teacher", tok=word_tokenizer(["stop", "go"])), ENV, beta=.5)
    RolloutMixer(student, policy(1, "teacher", tok=tokenizer()), ENV, beta=.5)
    for kw, why in ((dict(beta=1.5), "0..1"), (dict(max_turns=0), "1 or more"), (dict(batch_size=0), "1 or more")):
        with pytest.raises(ValueError, match=why): RolloutMixer(student, teacher, ENV, **kw)
    for beta in (.5, lambda turn: 0.):
        with pytest.raises(ValueError, match="pass a teacher"): RolloutMixer(student, None, ENV, beta=beta)
        with pytest.raises(ValueError, match="pass a teacher"): RolloutMixer(student, None, ENV)(TASKS, beta=beta)
    with pytest.raises(ValueError, match="0..1"): RolloutMixer(student, teacher, ENV)(TASKS, beta=-.1)
    class NoExpert(Corridor): expert = None
    with pytest.raises(ValueError, match="expert"): RolloutMixer(student, None, NoExpert(), student_last=1)(TASKS)
    class Sliding: pass
    odd = policy(0).model; odd.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ValueError, match="sliding_attention"): HFPolicy(odd, TOK)

def test_an_expert_prefix_and_a_person(pair):
    ts = RolloutMixer(pair[0], None, Corridor(max_turns=20), student_last=2, max_turns=3, batch_size=3)(TASKS)
    for t in ts:
        rooms = int(t.task.split("/")[1]) % 10
        who = [turn.actor for turn in t.turns]
        assert who[:rooms - 2] == ["expert"]*(rooms - 2) and set(who[rooms - 2:]) == {"student"} and 1 <= len(who) - (rooms - 2) <= 3
        assert [turn.trained for turn in t.turns] == [a != "expert" for a in who]
    seen = []
    person = HumanPolicy(TOK, ask=lambda o: (seen.append(o), "go")[1])
    t = RolloutMixer(person, None, ENV)(["train/4"])[0]
    assert t.success and t.ended == "environment" and [turn.action for turn in t.turns] == ["go"]*4 and seen == [turn.observation for turn in t.turns]
    assert RolloutMixer(ExpertPolicy(ENV, TOK), None, ENV, batch_size=2)(TASKS)[0].success
