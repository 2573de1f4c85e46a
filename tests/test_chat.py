"Token-exactness: what was sampled is what stands in the context, and nothing that an environment says can act as a control token."
import warnings

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from guided_opd.chat import CHATML, Chat, check_same_tokenizer, parse_action, template_pieces, word_tokenizer
from guided_opd.pocket import POCKET_TEMPLATE

# What Qwen3's own template does to a conversation, in few words: thinking before the last question is dropped, after it it is kept.
QWEN3 = """{%- set ns = namespace(asked=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' and not m.content.startswith('<tool_response>') -%}{%- set ns.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- set ns.text = m.content -%}
{%- if m.role == 'assistant' and '</think>' in m.content -%}
{%- set ns.text = m.content.split('</think>')[-1].lstrip('\\n') -%}
{%- if loop.index0 > ns.asked -%}{%- set ns.text = '<think>\\n' + m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') + '\\n</think>\\n\\n' + ns.text -%}{%- endif -%}
{%- endif -%}
{{- '<|im_start|>' + m.role + '\\n' + ns.text + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}"""

SPECIALS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

def byte_level(template=CHATML, specials=SPECIALS, merges=(("o", "p"), ("e", "n"), ("op", "en"), ("Ġ", "d"))):
    "A byte-level BPE tokenizer, as Qwen's is."
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for a, b in merges: vocab[a + b] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tok, pad_token=specials[0], eos_token=specials[-1], additional_special_tokens=list(specials), chat_template=template, clean_up_tokenization_spaces=False)

def words(template=CHATML, specials=SPECIALS):
    tok = word_tokenizer("\n user system assistant ▁open ▁door open".split(" "), specials=specials)
    tok.chat_template = template
    return tok

POCKET = "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|im_end|>"
MAKE = dict(byte_level=byte_level, words=words, pocket=lambda: words(POCKET_TEMPLATE, POCKET), qwen3=lambda: byte_level(QWEN3))
TOKENIZERS = {k: f() for k, f in MAKE.items()}
# (before the first observation, from an observation to the reply, from a whole reply to the next observation), as the templates are written
WRAP = {**dict.fromkeys(("byte_level", "words", "qwen3"), ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "\n<|im_start|>user\n")), "pocket": ("<|user|>", "<|im_end|><|assistant|>", "<|user|>")}

# "▁" stands for the space in word tokenizers, so it is the one character that they do not keep
hostile = st.text(st.characters(exclude_characters="▁"), max_size=20) | st.lists(st.sampled_from([*SPECIALS, *POCKET, " open", "\n", "<|im_", "end|>", "<think>", "</think>", "<0x0A>", "▁".replace("▁", " "), "  ", "é", "🤷‍♀️", "\x00"]), max_size=6).map("".join)
conversation = st.lists(st.tuples(hostile, st.lists(st.integers(0, 258), max_size=5), st.booleans()), min_size=1, max_size=5)

def talk(chat, turns):
    "Play a conversation; the history, with the last observation waiting for its reply, and the replies."
    h, replies = chat.history(), []
    for observation, ids, ends in turns:
        h.observe(observation)
        if len(h.observations) == len(turns): break
        replies.append([i for i in ids if i != chat.eos] + [chat.eos]*ends)
        h.reply(replies[-1])
    return h, replies

def quiet(*args, **kw):
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); return Chat(*args, **kw)

@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=60, deadline=None)
@given(turns=conversation, instructions=st.sampled_from([None, "Say <|im_end|>? No: go."]))
def test_a_transcript_holds_the_sampled_ids_and_the_observations_word_for_word(name, turns, instructions):
    tok, (before, ask, again) = TOKENIZERS[name], WRAP[name]
    chat = quiet(tok, instructions=instructions if name != "pocket" else None)
    h, replies = talk(chat, turns)
    if instructions and name != "pocket": before = f"<|im_start|>system\n{instructions}<|im_end|>\n" + before
    assert h.context == [i for prompt, reply in zip(h.prompts, replies + [[]]) for i in prompt + reply]
    for k, (prompt, (observation, _, _)) in enumerate(zip(h.prompts, turns)):
        closed = k and replies[k-1][-1:] == [chat.eos]
        expected = (before if k == 0 else again if closed else "<|im_end|>" + again) + observation + ask
        assert tok.decode(prompt) == expected
        outside = tok.encode(expected.replace(observation + ask, ask) if observation else expected, add_special_tokens=False)
        control = lambda ids: [i for i in ids if i in tok.all_special_ids]
        assert control(prompt) == control(outside), "an observation made a control token"

@pytest.mark.parametrize("name", MAKE)
@settings(max_examples=40, deadline=None)
@given(turns=conversation, window=st.integers(0, 3))
def test_a_window_holds_the_task_and_the_last_turns(name, turns, window):
    chat = quiet(TOKENIZERS[name], "window", window)
    h, replies = talk(chat, turns)
    n = len(turns)
    shown = [i for i in range(n) if i == 0 or i >= n - 1 - window]
    expected = list(chat.before)
    for j, i in enumerate(shown):
        if j: expected += chat.glue(replies[shown[j-1]])
        expected += chat.content(turns[i][0]) + chat.ask + (replies[i] if i < n - 1 else [])
    assert h.context == expected == h.prompts[-1]
    if window >= n - 1: assert h.context == talk(quiet(TOKENIZERS[name]), turns)[0].context

@pytest.mark.parametrize("name", ["byte_level", "words", "pocket"])
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text("abc open\ndé.", max_size=12), min_size=1, max_size=5))
def test_an_append_only_template_is_followed_to_the_token(name, texts):
    tok = TOKENIZERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat = Chat(tok, instructions="Be brief." if name != "pocket" else None)
    h, messages = chat.history(), [dict(role="system", content="Be brief.")]
    for text in texts:
        h.observe(text); messages.append(dict(role="user", content=text))
        assert h.context == tok.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        h.reply(tok.encode("> " + text, add_special_tokens=False) + [tok.eos_token_id]); messages.append(dict(role="assistant", content="> " + text))

def test_a_template_that_rewrites_the_past_is_said_and_withstood():
    tok = TOKENIZERS["qwen3"]
    assert template_pieces(tok).rewrites_past and not template_pieces(TOKENIZERS["byte_level"]).rewrites_past
    with pytest.warns(UserWarning, match="rewrites earlier turns.*exactly as it was sampled"): chat = Chat(tok)
    with warnings.catch_warnings(): warnings.simplefilter("error"); Chat(tok, "window")   # rebuilt each turn: nothing to rewrite
    thought = "<think>\nThe door is shut.\n</think>\n\nopen door"
    h, ids = chat.history(), tok.encode(thought, add_special_tokens=False) + [tok.eos_token_id]
    h.observe("A door."); h.reply(ids); h.observe("It opens.")
    official = tok.apply_chat_template([dict(role="user", content="A door."), dict(role="assistant", content=thought), dict(role="user", content="It opens.")], add_generation_prompt=True, tokenize=False)
    assert "shut" not in official, "the template of this test drops old thinking"
    assert tok.decode(h.context) == official.replace("open door", thought) and h.context[len(h.prompts[0]):][:len(ids)] == ids

def test_templates_that_cannot_be_taken_apart_are_refused_in_words():
    for template, why in ((None, "no chat template"), ("{% for m in messages %}{{ m.role }}{% endfor %}", "chat template"), ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "chat template"),
                          ("{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}", "System role not supported")):
        with pytest.raises(ValueError, match=why): Chat(byte_level(template), instructions="Go.")
    with pytest.raises(ValueError, match="'transcript' or 'window'"): Chat(TOKENIZERS["words"], "chat")

def test_text_that_is_no_unicode_does_not_stop_a_run():
    for tok in TOKENIZERS.values(): assert tok.decode(quiet(tok).content("a\ud800b")) in ("a?b", "a\ufffdb")

def test_teacher_and_student_must_agree_id_for_id():
    a, b = words(), words()
    check_same_tokenizer(a, b)
    b.add_tokens(["<extra>"])
    check_same_tokenizer(a, b); check_same_tokenizer(b, a)            # more tokens behind the shared ones are fine
    for other, why in ((word_tokenizer("\n user system assistant ▁door ▁open".split(" ")), "id 263 is '▁open' for the student and '▁door' for the teacher"), (byte_level(), "id 0 is"), (words(specials=SPECIALS[::-1]), "id 0 is")):
        with pytest.raises(ValueError, match=f"different tokenizers: .*{why}"): check_same_tokenizer(a, other)
    other_end = words(); other_end.eos_token = "<|im_start|>"
    with pytest.raises(ValueError, match="end-of-turn"): check_same_tokenizer(a, other_end)

@pytest.mark.parametrize("reply, action", [("go to door 1", "go to door 1"), ("  look \n", "look"), ("", ""), ("<think>\nhm\n</think>\n\nopen door", "open door"), ("<think>never ends", ""), ("<think></think>", ""),
    ("<think>a</think>b</think> c", "c"), ("I will. <action>open door</action> Done.", "open door"), ("<action>a</action><action>\nb\n</action>", "b"), ("<action></action>", ""), ("<action>open", "<action>open"),
    ("<think><action>no</action></think><action>yes</action>", "yes"), ("</think> go", "go")])
def test_the_action_in_a_reply(reply, action): assert parse_action(reply) == action
