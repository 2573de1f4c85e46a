"WebShop under rough treatment: broken files, odd goals, odd actions. All on products that the tests make themselves."
import json, os, subprocess, sys, time
from pathlib import Path

import pytest

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("rapidfuzz")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from guided_opd.cli import main
from guided_opd.envs.base import make_env
from guided_opd.envs.webshop import WebShop, parse_action
from guided_opd.envs.webshop_catalogue import Catalogue, Generated, check_files, generated_records

RECORDS = [generated_records(i) for i in range(60)]
PRODUCTS, ATTRIBUTES, PEOPLE = [r[0] for r in RECORDS], {r[0]["asin"]: r[1] for r in RECORDS}, {r[0]["asin"]: r[2] for r in RECORDS}

@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv("GUIDED_OPD_CACHE", str(tmp_path_factory.getbasetemp()/"webshop-cache"))

@pytest.fixture(scope="module")
def env(): return WebShop(PRODUCTS, ATTRIBUTES, max_turns=10**9)

def write(path, value): path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8"); return path
def play(env, task, actions): env.reset(options={"task": task}); return [env.step(a) for a in actions]


# --- catalogues

def test_paths_and_objects_are_the_same(tmp_path):
    files = dict(products=write(tmp_path/"p.json", PRODUCTS), attributes=write(tmp_path/"a.json", ATTRIBUTES))
    a, b = WebShop(PRODUCTS, ATTRIBUTES), WebShop(**files)
    assert a.goals == b.goals and [p for p in a.shop.catalogue] == [p for p in b.shop.catalogue]
    goals, prices = write(tmp_path/"g.json", a.goals[::-1]), write(tmp_path/"pr.json", {k: 1. for k in a.shop.prices})
    c = WebShop(**{k: str(v) for k, v in files.items()}, goals=str(goals), prices=str(prices))
    assert c.goals == a.goals[::-1] and set(c.shop.prices.values()) == {1.}
    assert a.shop.index.top("hdmi cable") == b.shop.index.top("hdmi cable")

def test_changed_file_is_read_and_indexed_anew(tmp_path):
    path = write(tmp_path/"p.json", PRODUCTS)
    first = WebShop(path, ATTRIBUTES)
    os.utime(write(path, PRODUCTS[:30]), ns=(1, 1))
    second = WebShop(path, ATTRIBUTES)
    assert (len(first.shop.catalogue), len(second.shop.catalogue), len(second.shop.index)) == (60, 30, 30)

@pytest.mark.parametrize("end", [.999, .7, .5, .02])
def test_truncated_catalogue_says_where(tmp_path, end):
    text = json.dumps(PRODUCTS)
    path = write(tmp_path/"items.json", text[:int(len(text)*end)])
    with pytest.raises(ValueError, match=r"items\.json, record \d+.*cut off.*complete records"): WebShop(path, ATTRIBUTES)

@pytest.mark.parametrize("damage,says", [
    (lambda r: r.pop("name"), "has no 'name'"), (lambda r: r.update(full_description=None), "'full_description' is null"),
    (lambda r: r.update(pricing="call us"), "'pricing' is 'call us'"), (lambda r: r.update(pricing=9.9), "'pricing' is a float"),
    (lambda r: r.update(customization_options={"Size": [{}]}), "'customization_options'"), (lambda r: r.update(customization_options=[1]), "'customization_options'"),
    (lambda r: r.update(small_description=[None]), "'small_description'"), (lambda r: r.update(asin=7), "'asin' is a int")])
def test_broken_record_is_named(tmp_path, damage, says):
    records = json.loads(json.dumps(PRODUCTS))
    damage(records[17])
    for source in (records, write(tmp_path/"items.json", records)):
        with pytest.raises(ValueError, match="record 17") as e: WebShop(source, ATTRIBUTES)
        assert says in str(e.value) and "\n" not in str(e.value)

def test_broken_json_is_named(tmp_path):
    text = json.dumps(PRODUCTS)
    i = text.index('"asin": "GEN0000017"')
    with pytest.raises(ValueError, match="record 17: broken JSON"): WebShop(write(tmp_path/"items.json", text[:i]+text[i:].replace('"asin":', '"asin"', 1)), ATTRIBUTES)
    (tmp_path/"zip.json").write_bytes(b"\x1f\x8b\x08"+bytes(range(256)))
    with pytest.raises(ValueError, match="not UTF-8|not a JSON"): WebShop(tmp_path/"zip.json")
    with pytest.raises(ValueError, match="list"): WebShop(write(tmp_path/"d.json", '{"a": {}}'))
    with pytest.raises(ValueError, match="a.json.*GEN0000003.*cut off"):
        text = json.dumps(ATTRIBUTES); WebShop(PRODUCTS, write(tmp_path/"a.json", text[:text.index("GEN0000003")+40]))
    with pytest.raises(FileNotFoundError): WebShop(tmp_path/"none.json")

def test_its_settings_are_plain_data(tmp_path):
    "A run's folder and a comparison write them down."
    made = WebShop(Path(write(tmp_path/"items.json", json.dumps(PRODUCTS))), ATTRIBUTES, max_turns=5)
    assert json.loads(json.dumps(made.settings))["products"] == str(tmp_path/"items.json") and made.copy().tasks("test", 2) == made.tasks("test", 2)

def test_wrong_attributes_goals_and_prices_are_named(env):
    with pytest.raises(ValueError, match="record 2 .*instruction_attributes"): WebShop(PRODUCTS, {PRODUCTS[2]["asin"]: dict(instruction="x", instruction_attributes=[])})
    with pytest.raises(ValueError, match="goal 1 .*'name' is not a text"): WebShop(PRODUCTS, goals=[env.goals[0], env.goals[0] | dict(name=None)])
    with pytest.raises(ValueError, match="no number for product GEN0000000"): WebShop(PRODUCTS, ATTRIBUTES, prices={"x": 1})
    for reviews, why in (([1], "list of objects"), ([dict(asin=PRODUCTS[0]["asin"], reviews=["x"])], "record 0 .*'reviews'")):
        with pytest.raises(ValueError, match=why): WebShop(PRODUCTS, ATTRIBUTES, reviews=reviews)
    with pytest.raises(ValueError, match="no goals"): WebShop(PRODUCTS)
    with pytest.raises(ValueError, match="9,999,999"): WebShop(size=10**8)

def test_official_files_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(ValueError, match="WEBSHOP_DATA"): make_env("webshop", products="small")
    write(tmp_path/"items_shuffle_1000.json", PRODUCTS)
    fine, lines = check_files(tmp_path)
    assert not fine and "60 records" in lines[0] and all("drive.google.com" in l for l in lines[1:])
    with pytest.raises(SystemExit, match="1"): main(["envs", "webshop", "--from", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == lines
    write(tmp_path/"items_ins_v2_1000.json", ATTRIBUTES)
    assert check_files(tmp_path)[0]
    main(["envs", "webshop", "--from", str(tmp_path)])
    assert "60 records" in capsys.readouterr().out
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    assert len(make_env("webshop", products="small").shop.catalogue) == 60
    with pytest.raises(ValueError, match="items_human_ins.json: missing"): make_env("webshop", products="small", human_goals=True)

def test_num_products(): assert len(WebShop(PRODUCTS, ATTRIBUTES, num_products=10).shop.catalogue) == 10


# --- goals

def test_goals_for_unknown_products_can_be_played():
    known = WebShop(PRODUCTS, ATTRIBUTES)
    env = WebShop(PRODUCTS, ATTRIBUTES, goals=[known.goals[0] | dict(asin="B000UNKNOWN"), known.goals[1]])
    assert env.unknown_goals == [0]
    obs, info = env.reset(options={"task": 0})
    expert, done = env.expert(), False
    while not done: obs, _, done, _, info = env.step(expert.act(obs))
    assert info["score"] == 1 # what the goal asks for is there, under another id

def test_human_goals():
    env = WebShop(PRODUCTS, ATTRIBUTES, PEOPLE)
    assert env.reset(options={"task": "3"})[0].startswith("WebShop [SEP] Instruction: [SEP] i am looking for")

def test_seeds():
    a, b, c = WebShop(PRODUCTS, ATTRIBUTES), WebShop(PRODUCTS, ATTRIBUTES), WebShop(PRODUCTS, ATTRIBUTES, seed=1)
    assert a.goals == b.goals != c.goals and a.shop.prices == b.shop.prices != c.shop.prices
    import random
    random.seed(3); before = random.getstate(); WebShop(PRODUCTS, ATTRIBUTES); assert random.getstate() == before


def test_nouns_come_from_spacy_where_it_is_installed(tmp_path, monkeypatch):
    "A stand-in for spaCy and its model: what is asked of them, and that it is asked once per title."
    from guided_opd.envs.webshop_reward import Nouns
    assert Nouns().source == "unused"
    for module, code in (("en_core_web_sm", ""), ("spacy", """
from types import SimpleNamespace as T
calls = []
def load(name, disable): return lambda text: calls.append(text) or [T(text=w, pos_="NOUN" if w[0].isupper() else "ADJ") for w in text.split()]
""")): write(tmp_path/f"{module}.py", code); monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    nouns = Nouns(dict(B1=["known"]))
    assert (nouns("B0", "red Shoe"), nouns("B9", "red Shoe"), nouns("B1", "x"), nouns.source) == (["shoe"], ["shoe"], ["known"], "given and spacy")
    assert sys.modules["spacy"].calls == ["red Shoe"]
    monkeypatch.delitem(sys.modules, "spacy")

def test_nouns_come_from_a_pipeline_of_spacy(tmp_path):
    "spaCy itself, with a pipeline of rules installed under the name of its small English model, which is no package of PyPI."
    pytest.importorskip("spacy", reason="needs spacy")
    code = """
import sys, spacy
from pathlib import Path
site = Path(sys.argv[1])
nlp = spacy.blank("en")
nlp.add_pipe("attribute_ruler").add(patterns=[[{"LOWER": {"IN": ["shoe", "lamp"]}}]], attrs={"POS": "NOUN"})
nlp.get_pipe("attribute_ruler").add(patterns=[[{"LOWER": "belnor"}]], attrs={"POS": "PROPN"})
nlp.meta["name"] = "core_web_sm"
(site/"en_core_web_sm").mkdir()
nlp.to_disk(site/"en_core_web_sm"/"en_core_web_sm-0.0.0")
(site/"en_core_web_sm"/"meta.json").write_text((site/"en_core_web_sm"/"en_core_web_sm-0.0.0"/"meta.json").read_text())
(site/"en_core_web_sm"/"__init__.py").write_text("from spacy.util import load_model_from_init_py\\n__version__ = '0.0.0'\\ndef load(**kw): return load_model_from_init_py(__file__, **kw)\\n")
(site/"en_core_web_sm-0.0.0.dist-info").mkdir()
(site/"en_core_web_sm-0.0.0.dist-info"/"METADATA").write_text("Metadata-Version: 2.1\\nName: en_core_web_sm\\nVersion: 0.0.0\\n")
sys.path.insert(0, str(site))
from guided_opd.envs.webshop_reward import Nouns
nouns = Nouns()
print(nouns("B1", "Belnor red Shoe for a Lamp"), nouns.source)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "['belnor', 'shoe', 'lamp'] spacy", done.stdout + done.stderr[-1500:]


# --- actions

def test_search_works_from_every_page(env):
    first = env.reset(options={"task": 0})[0]
    asin = PRODUCTS[0]["asin"].lower()
    for path in ([], ["search[shoes]"], [f"search[{PRODUCTS[0]['name']}]", f"click[{asin}]"], [f"search[{PRODUCTS[0]['name']}]", f"click[{asin}]", "click[features]"]):
        out = play(env, 0, [*path, "search[tea]"])
        assert out[-1][4]["page"] == "search_results" and out[-1][4]["valid"]
    assert env.step("click[back to search]")[0] == first

def test_pages_have_no_end(env):
    out = play(env, 0, ["search[shirt]"]+["click[next >]"]*9+["click[< prev]"]*9)
    assert "Page 10 (" in out[9][0] and out[0][0] == out[-1][0]

@pytest.mark.parametrize("per_page", [1, 4, 10, 60])
def test_pages_of_any_size_show_the_same_products(env, per_page):
    other = WebShop(PRODUCTS, ATTRIBUTES, per_page=per_page, max_turns=100)
    assert env.per_page == 10 and other.copy().per_page == per_page
    env.reset(options={"task": 0})
    total = int(env.step("search[shirt]")[0].split("Total results: ")[1].split(")")[0])
    shown = lambda e: [c for i in range(-(-total//e.per_page)) for c in (e.step("click[next >]") if i else e.step("search[shirt]"))[4]["available_actions"]["clickables"] if c.startswith("gen")]
    other.reset(options={"task": 0})
    assert shown(other) == shown(env) and len(set(shown(env))) == total
    with pytest.raises(ValueError, match="per_page must be at least 1"): WebShop(PRODUCTS, ATTRIBUTES, per_page=0)

def test_html_is_text(env):
    evil = dict(PRODUCTS[0], asin="EVIL", name="<b>Bold</b> & <script>alert(1)</script> tee", customization_options={"Color": [{"value": "<i>red</i>"}]})
    env = WebShop([evil], {"EVIL": ATTRIBUTES[PRODUCTS[0]["asin"]]}, observation_mode="text_rich")
    obs = play(env, 0, ["search[tee]", "click[evil]", "click[<i>red< | i>]"])[-1][0]
    assert "<b>Bold</b> & <script>alert(1)</script> tee" in obs and "[clicked button] <i>red< | i> [clicked button_]" in obs

def test_after_buying_there_is_nothing_to_do(env):
    out = play(env, 0, [f"search[{PRODUCTS[5]['name']}]", f"click[{PRODUCTS[5]['asin'].lower()}]", "click[buy now]"])
    obs, reward, terminated, truncated, info = out[-1]
    assert terminated and not truncated and 0 <= reward <= 1 and info["score"] == reward and info["admissible"] == []
    with pytest.raises(gymnasium.error.ResetNeeded): env.step("click[buy now]")

def test_a_product_may_be_called_like_a_button():
    env = WebShop([dict(p, asin=a) for p, a in zip(PRODUCTS, ("Buy Now", "reviews", "Next >", "aB"))], {"aB": ATTRIBUTES[PRODUCTS[3]["asin"]]})
    for a in ("buy now", "reviews", "next >", "ab"): assert play(env, 0, ["search[for]", f"search[{PRODUCTS[0]['name']} {PRODUCTS[1]['name']} {PRODUCTS[2]['name']} {PRODUCTS[3]['name']}]", f"click[{a}]"])[-1][4]["page"] == "item_page"

def test_everything_admissible_is_understood(env):
    name, asin = PRODUCTS[5]["name"], PRODUCTS[5]["asin"].lower()
    for path in ([], ["search[shirt]"], [f"search[{name}]", f"click[{asin}]"], [f"search[{name}]", f"click[{asin}]", "click[description]"]):
        env.reset(options={"task": 0})
        for a in path: info = env.step(a)[4]
        for a in (info if path else env.reset(options={"task": 0})[1])["admissible"]:
            play(env, 0, path)
            assert env.step(a)[4]["valid"], a

def test_turn_limit():
    env = WebShop(PRODUCTS, ATTRIBUTES)
    out = play(env, 0, ["search[tea]"]*15)
    assert [o[3] for o in out] == [False]*14+[True] and out[-1][4]["score"] == 0

def test_a_long_action_takes_no_time(env):
    env.reset(options={"task": 0})
    for c in "[", "]", "search[", "x", "🤔", "_", "\u0301", "<b>", "1,", "a'", "\n", "[SEP] ", "\u200d❤":
        for a in (c*(100_000//len(c)), f"search[{c*(100_000//len(c))}]", f"click[{c*(100_000//len(c))}]"):
            t = time.perf_counter(); obs = env.step(a)[0]
            assert isinstance(obs, str) and time.perf_counter()-t < 5

ACTIONS = st.one_of(st.text(max_size=60), st.builds("search[{}]".format, st.text(max_size=40)), st.builds("click[{}]".format, st.text(max_size=20)),
    st.sampled_from(["search[shirt]", "search[<r> x]", "search[<a> high speed]", "search[<a>]", "search[<c>]", "search[<c> beauty]", "search[<q> teas]", "search[search_results]", "search[item_page]",
                     "click[back to search]", "click[< prev]", "click[next >]", "click[description]", "click[features]", "click[reviews]", "click[attributes]", "click[buy now]", "search[\ud800]"]),
    st.integers(0, 40)) # a number: that one of what can be clicked

@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(task=st.integers(0, 100), actions=st.lists(ACTIONS, max_size=25), rich=st.booleans())
def test_fuzz(env, task, actions, rich):
    env.observation_mode = "text_rich" if rich else "text"
    obs, info = env.reset(options={"task": task})
    for a in actions:
        can = info["available_actions"]["clickables"]
        assert all(parse_action(x)[1] in can for x in info["admissible"] if x.startswith("click["))
        if isinstance(a, int): a = f"click[{can[a % len(can)]}]" if can else ""
        obs, reward, terminated, truncated, info = env.step(a)
        assert isinstance(obs, str) and obs and env.observation_space.contains(obs)
        assert 0 <= reward <= 1 and 0 <= info["score"] <= 1 and info["success"] == (info["score"] == 1)
        assert not (reward and not terminated) and isinstance(info["admissible"], list)
        if terminated: break

@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab[]\n ", max_size=12))
def test_parse_action_is_the_pattern_of_the_original(action):
    import re
    m = re.match(r"(.+)\[(.+)\]", action)
    assert parse_action(action) == (m.groups() if m else (action, None))


# --- the contract

def test_gymnasium_accepts_it():
    from gymnasium.utils.env_checker import check_env
    check_env(WebShop(PRODUCTS, ATTRIBUTES), skip_render_check=True)

def test_copies_share_the_shop_and_nothing_else(env):
    other = env.copy()
    assert other.shop is env.shop
    play(env, 0, ["search[tea]"]); other.reset(options={"task": 1}); other.step("search[shirt]")
    assert env.page.url != other.page.url and env.goal is not other.goal

def test_another_process_plays_the_same(tmp_path):
    code = "from guided_opd.envs.base import make_env; e = make_env('webshop', size=50); e.reset(seed=4); print(e.step('search[shirt]')[0].encode())"
    outs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
            env=os.environ | dict(GUIDED_OPD_CACHE=str(tmp_path/c), PYTHONHASHSEED=h)).stdout for c, h in (("a", "1"), ("a", "2"), ("b", "3"))}
    assert len(outs) == 1 and "Total results" in outs.pop()

def test_expert_carries_on_from_anywhere(env):
    name, other = PRODUCTS[9]["name"], PRODUCTS[9]["asin"].lower()
    for mess in (["search[zzz]"], [f"search[{name}]", f"click[{other}]", "click[reviews]"], ["search[shirt]", "click[next >]", "click[next >]", "click[next >]"]):
        out = play(env, 0, mess)
        obs, expert, done, n = out[-1][0], env.expert(), False, 0
        while not done: obs, reward, done, _, info = env.step(expert.act(obs)); n += 1
        assert reward == 1 and n <= 12

def test_expert_buys_what_is_open_if_it_is_as_good():
    "A twin of the product that the expert would take, opened by somebody else."
    twin = dict(PRODUCTS[9], asin="TWIN")
    env = WebShop([*PRODUCTS, twin], ATTRIBUTES, goals=[g for g in WebShop(PRODUCTS, ATTRIBUTES).goals if g["asin"] == PRODUCTS[9]["asin"]], prices={p["asin"]: 1. for p in [*PRODUCTS, twin]})
    obs, expert = play(env, 0, [f"search[{twin['name']}]", "click[twin]"])[-1][0], env.expert()
    for _ in range(4):
        obs, reward, done, _, info = env.step(expert.act(obs))
        if done: break
    assert reward == 1 and info["bought"]["asin"] == "TWIN"

def test_generated_catalogue_is_lazy():
    t = time.perf_counter()
    shop = Generated(10**6)
    assert shop[999_999].asin == "GEN0999999" and shop.find("gen0123456").asin == "GEN0123456" and time.perf_counter()-t < 1
    assert Catalogue.read([r for r, *_ in RECORDS[:5]], ATTRIBUTES)[3].name == Generated(10)[3].name
