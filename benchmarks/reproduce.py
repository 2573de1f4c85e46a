"""The study: every environment, method, size of student and seed, in cells that can be stopped and continued at any time.

    python benchmarks/reproduce.py --dry-run          which cells there are, which are done, how long the others take
    python benchmarks/reproduce.py --jobs 2           run what is missing, two cells at once; Ctrl-C saves, the same command goes on
    python benchmarks/reproduce.py --tune             learning rates first, on validation tasks: every method tries the same two, then on from the better one until it lies between two that are worse; --seeds 3 gives the two best rates two more trainings; ablations, too, if --methods names them
    python benchmarks/reproduce.py --ablations        also the named ablations (guided_opd.study.ABLATIONS)
    python benchmarks/reproduce.py --tables-only      tables, figures and docs/study.md anew from the result files, in seconds

Each cell trains in WORK/ENV/SIZE/NAME/seed_N and leaves config.json, metrics.jsonl and evaluation.json in
RESULTS/ENV/SIZE/NAME/seed_N; a cell whose evaluation is there is done. On one free core a cell takes 4 to 10 minutes
in ALFWorld (16 with a horizon of 30 turns) and 7 to 40 in the others (250 updates, then 256 unseen tasks greedy and sampled), so the 150 cells of the whole
study take about a day and a half of one core; a GPU is used where there is one.

Simplified: pocket models instead of Qwen3, compact generated games; rates are tuned on one seed, or few.
"""
import argparse, json, shutil, statistics, sys
from itertools import product
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from guided_opd.runfolder import read_jsonl, write_json
from guided_opd.schedule import METHODS

ENVS, SIZES = ("alfworld", "scienceworld", "webshop"), ("student_small", "student")
RATES, FIRST_RATES = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2), (2e-3, 5e-3)   # learning rates, and those that are tried first
TUNING_EPISODES, EPISODES, WEAK_UPDATES = 64, 256, 600
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    env:str; size:str; name:str; seed:int
    @property
    def path(self): return Path(self.env)/self.size/self.name/f"seed_{self.seed}"
    @property
    def tuned(self): return self.name.partition("/")[2].rpartition("-lr_")[::2] if self.name.startswith("tuning/") else None   # method, rate

def tuning_name(method, lr): return f"tuning/{method}-lr_{lr:g}"

def tried_rates(results, env, size, method):
    "Success on validation tasks, the mean of both decodings and of the seeds there are, by learning rate, from the lowest to the highest."
    mean = lambda place: statistics.mean(r["success"] for p in place.glob("seed_*/evaluation.json") for r in json.loads(p.read_text()))
    found = {p.parents[1] for p in (results/env/size/"tuning").glob(f"{method}-lr_*/seed_0/evaluation.json")}
    return dict(sorted((float(place.name.rpartition("_")[2]), mean(place)) for place in found))

def tuned_lr(results, env, size, method):
    "The learning rate with the highest success on validation tasks; None when this method was not tuned."
    tried = tried_rates(results, env, size, method)
    return max(tried, key=tried.get) if tried else None

def rates_to_try(results, env, size, method):
    "The first two learning rates, then the neighbours of the best one (of each, where several are best), until it lies between two that are worse."
    tried = tried_rates(results, env, size, method)
    if not set(FIRST_RATES) <= set(tried): return FIRST_RATES
    best = [RATES.index(lr) for lr, success in tried.items() if success == max(tried.values())]
    return tuple(lr for i, lr in enumerate(RATES) if lr in tried or any(abs(i - b) == 1 for b in best))

def tuning_cells(results, env, size, method, seeds):
    "Trainings that choose a learning rate: one with each of `rates_to_try`, and when those are done, further seeds of the two best rates."
    tried, rates = tried_rates(results, env, size, method), rates_to_try(results, env, size, method)
    best = sorted(tried, key=tried.get)[-2:] if set(rates) <= set(tried) else ()
    return [Cell(env, size, tuning_name(method, lr), seed) for seed in range(seeds) for lr in (best if seed else rates)]

def config_of(cell, results, smoke=False):
    "Settings of a cell: the environment's recipe, the method's or ablation's own, and the tuned learning rate; an ablation that was not tuned takes its method's, one of Guided-OPD takes OPD's."
    from guided_opd.compare import POCKET_SETTINGS
    from guided_opd.study import ABLATIONS
    from guided_opd.trainer import GuidedOPDConfig
    recipe, (name, lr) = POCKET_SETTINGS[cell.env], cell.tuned or (cell.name, None)
    own = dict(method="guided") | ABLATIONS[name] if name in ABLATIONS else dict(method=name)
    like = "opd" if name in ABLATIONS and own["method"] == "guided" else own["method"]
    lr = float(lr) if lr else next((rate for n in dict.fromkeys((name, like)) if (rate := tuned_lr(results, cell.env, cell.size, n)) is not None), None)
    own = recipe["settings_of"][cell.size].get(like, {}) | own | ({} if lr is None else dict(lr=lr))
    return GuidedOPDConfig(**{**recipe["settings"], **own, "seed": cell.seed, **(dict(steps=2, rollouts_per_step=2, max_turns=3, eval_episodes=2, warmup_steps=1) if smoke else {})})

def missing(env, size):
    "Why there can be no cells here; None when there can."
    from guided_opd.compare import POCKET_SETTINGS
    from guided_opd.pocket import POCKET_MODELS
    if env not in POCKET_SETTINGS: return f"{env}: no recipe in compare.POCKET_SETTINGS yet"
    for m in ("teacher", size):
        if not (POCKET_MODELS/env/m/"config.json").exists(): return f"{env}: no pocket model {m!r} (guided-opd pocket build --env {env})"

def expected_minutes(cell, results):
    "Minutes of training in the finished cells that are most like this one; None when there are none."
    name = cell.tuned[0] if cell.tuned else cell.name
    for pattern in (f"{cell.env}/{cell.size}/{name}", f"{cell.env}/*/{name}", f"{cell.env}/*/guided", f"{cell.env}/*/opd"):
        if done := [json.loads(p.read_text())[0]["seconds"]/60 for p in results.glob(f"{pattern}/seed_*/evaluation.json")]: return statistics.median(done)


# --- one cell, in a process of its own

def weak_teacher(env, work, updates=WEAK_UPDATES, episodes=2000):
    "A teacher of the same shape, trained for less and never on recovering; two cells that begin at once both make it, and it is the same."
    import torch
    from guided_opd.envs.base import make_env
    from guided_opd.pocket import POCKET, demonstrations, imitate, load_pocket, pocket_model
    folder = work/"teachers"/env
    if not (place := folder/"teacher").exists():
        size, tokenizer, world = replace(POCKET[env].sizes["teacher"], updates=updates), load_pocket("teacher", env).tokenizer, make_env(env, **POCKET[env].settings)
        model = pocket_model(size, tokenizer)
        imitate(model, demonstrations(world, tokenizer, world.tasks("train", episodes), progress="demonstrations"), size, progress="training a weak teacher")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as making:
            made = Path(making)/"teacher"
            tokenizer.save_pretrained(made); model.to(torch.bfloat16).save_pretrained(made)
            try: made.rename(place)
            except OSError:
                if not place.exists(): raise
    return load_pocket("teacher", env, folder)

def take_from_tuning(cell, config, work):
    "The same training may have been done to choose its learning rate; then only the evaluation is another."
    twin = work/replace(cell, name=tuning_name(cell.name, config.lr)).path
    if (twin/"evaluation.json").exists():
        shutil.copytree(twin, work/cell.path, ignore=shutil.ignore_patterns("evaluation.json", "log.txt"), dirs_exist_ok=True)

def opened(env, size, results, smoke):
    "The environment, its test tasks and the loader of its pocket models, for what is recorded in this folder of the results."
    import torch
    from guided_opd.compare import POCKET_SETTINGS, open_comparison
    from guided_opd.envs.base import make_env
    from guided_opd.pocket import POCKET, load_pocket
    if not torch.cuda.is_available(): torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = make_env(env, **POCKET[env].settings)
    test = world.tasks("test", 2 if smoke else EPISODES)
    open_comparison(results/env/size, world, test, POCKET_SETTINGS[env]["settings"])
    return world, test, lambda which: load_pocket(which, env, device=device)

def run_references(env, size, results, smoke=False):
    "Evaluate the cold start and the teacher."
    from guided_opd.compare import references
    world, test, model = opened(env, size, results, smoke)
    references(results/env/size, lambda: model(size), model("teacher"), world, test, config_of(Cell(env, size, "opd", 0), results, smoke))

def run(cell, results, work, smoke=False):
    "Train, evaluate, keep the small files."
    from guided_opd.compare import run_cell
    env, test, model = opened(cell.env, cell.size, results, smoke)
    config = config_of(cell, results, smoke)
    teacher = weak_teacher(cell.env, work) if "weak_teacher" in cell.name else model("teacher")
    tasks = env.tasks("valid", 2 if smoke else TUNING_EPISODES) if cell.tuned else test
    take_from_tuning(cell, config, work)
    rows = run_cell(lambda: model(cell.size), teacher, env, work/cell.path, tasks, config, cell.name)
    keep(work/cell.path, results/cell.path, rows)

def keep(run, place, rows):
    "The small files of a cell; its evaluation last, since that says it is done."
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(run/"config.json", place/"config.json")
    short = lambda v: float(f"{v:.5g}") if isinstance(v, float) else v
    (place/"metrics.jsonl").write_text("".join(json.dumps({k: short(v) for k, v in m.items()}) + "\n" for m in read_jsonl(run/"metrics.jsonl")))
    write_json(place/"evaluation.json", rows)


# --- many cells

def plan(args):
    "Cells that are asked for, seed by seed, and what is missing to run the others."
    from guided_opd.study import ABLATIONS
    if unknown := [m for m in args.methods if m not in METHODS and m not in ABLATIONS]: sys.exit(f"There is no method or ablation {unknown[0]!r}; choose one of {', '.join((*METHODS, *ABLATIONS))}.")
    for what, given, known in (("environment", args.envs, ENVS), ("size", args.sizes, SIZES)):
        if unknown := [x for x in given if x not in known]: sys.exit(f"There is no {what} {unknown[0]!r}; choose one of {', '.join(known)}.")
    places, reasons = [], []
    for env in args.envs:
        for size in args.sizes:
            if why := missing(env, size): reasons.append(why)
            else: places.append((env, size))
    if args.tune: return [c for e, s in places for m in args.methods for c in tuning_cells(args.results, e, s, m, args.seeds)], dict.fromkeys(reasons)
    cells = [Cell(e, s, m, seed) for e, s in places for seed in range(args.seeds) for m in args.methods]
    if args.ablations: cells += [Cell("alfworld", "student_small", a, seed) for seed in range(args.seeds) for a in ABLATIONS if ("alfworld", "student_small") in places]
    return list(dict.fromkeys(cells)), dict.fromkeys(reasons)

def finished(cell, args): return (args.results/cell.path/"evaluation.json").exists()

def show_plan(cells, reasons, args):
    minutes = {c: expected_minutes(c, args.results) for c in cells if not finished(c, args)}    # of those that are left
    for c in cells: print(f"{'to run ' if c in minutes else 'done   ':<8}{str(c.path):<62}{'' if c not in minutes else 'about ? min' if minutes[c] is None else f'about {minutes[c]:.0f} min'}")
    for r in reasons: print(f"missing {r}")
    known, said = [m for m in minutes.values() if m is not None], f"{len(cells) - len(minutes)} of {len(cells)} cells are done"
    if minutes: said += f"; the other {len(minutes)} take about {sum(known)/60/args.jobs:.1f} hours of training with --jobs {args.jobs}, as fast as the recorded ones"
    if unknown := len(minutes) - len(known): said += f"; {unknown} of them not counted, as nothing like them was timed yet"
    print(said + "." + " The evaluation of a cell comes on top, some minutes."*bool(minutes))

def work_left(cells, args):
    "What is not there yet, each in a process of its own: the cold start and the teacher that cells are compared with, then cells."
    from guided_opd.compare import Work
    places = dict.fromkeys((c.env, c.size) for c in cells if not c.tuned)
    return [Work(f"{env}/{size}: cold start and teacher", args.work/env/size/"reference.txt", run_references, (env, size, args.results, args.smoke))
            for env, size in places if not (args.results/env/size/"reference.json").exists()] + [
            Work(str(c.path), args.work/c.path/"log.txt", run, (c, args.results, args.work, args.smoke), args.work/c.path, config_of(c, args.results, args.smoke).steps)
            for c in cells if not finished(c, args)]


# --- tables and figures, from the files alone

def report(args):
    "docs/study.md and its figures; returns the page's text."
    from guided_opd.compare import REFERENCES
    from guided_opd.plots import failed_length_figure, learning_figure, takeover_figure
    from guided_opd.report import kind_table
    from guided_opd.study import ablation_figure, ablation_rows, ablation_table, average_rows, counterpart_table, gain_figure, overview_table, read_metrics, read_results, size_table, study_table
    results, figures = read_results(args.results), {}
    cells = {place: len({(r["method"], r["seed"]) for r in rows if "lr" in r}) for place, rows in results.items()}
    command = lambda c: f"`{c}`"
    page = ["# The study", "Written by `python benchmarks/reproduce.py --tables-only` from the files in `benchmarks/results`; do not edit it by hand. [The tutorial](tutorials/06_reproduce.ipynb) builds the same tables and says how to read them.",
            "## What was reproduced, and what was not", "Scale: pocket models of 0.1 to 1.8 million parameters (Qwen3 architecture), 250 updates of 16 rollouts. **No 30B teacher was run**, and none of the paper's models, official games or full-size catalogues.\n",
            "| environment | student | finished trainings | of the 25 main cells (5 methods × 5 seeds) |\n|---|---|--:|--:|"]
    for env in ENVS:
        for size in SIZES:
            rows = results.get((env, size), [])
            main = len({(r["method"], r["seed"]) for r in rows if r["method"] in METHODS and r["seed"] < 5})
            page[-1] += f"\n| {env} | {size} | {cells.get((env, size), 0) or 'none'} | {main} |"
    page.append("The paper's claim (+21.1 % Score and +25.5 % success rate over OPD, averaged over three environments, more for smaller students) is about OPD and Guided-OPD. With five seeds of both, in all three environments and with both students, it can be judged at this scale; a table with fewer speaks for itself alone.")
    page.append(command("python benchmarks/reproduce.py --dry-run") + " lists what is missing and how long it takes; without `--dry-run` it is run.")
    page += ["## Every method", "Success, greedy / sampled, of 256 unseen tasks; means over as many trainings as the brackets say. The tables below have intervals, Score and gains."]
    page += [f"The student `{size}`:\n\n{overview_table(results, size)}" for size in SIZES if any(s == size for _, s in results)]
    page += ["## Where the teacher stops being one", "The paper's argument needs a teacher that is good on its own road and worse off it. The cold-started student plays the first *k* turns of an unseen task, then the teacher has 20 turns of its own; greedy decoding, bands of one standard error over episodes."]
    for env in ENVS:
        kept, again = args.results/env/"takeover.json", f"python benchmarks/takeover.py --env {env}"
        if not kept.exists(): page.append(f"{env}: not measured yet; {command(again)}"); continue
        curve = json.loads(kept.read_text())
        figures[f"{env}_takeover"] = takeover_figure(curve)
        again += f" --episodes {curve[0]['n']} --ks {' '.join(str(r['k']) for r in curve)}"
        page.append(f"{env}, {command(again)}:\n\n![Success and entropy of a teacher that takes over after k student turns](img/study/{env}_takeover.png)")
    for size in SIZES:
        if not (rows := average_rows(results, size)): continue
        page += [f"## Averaged over the environments, {size}", f"{', '.join(env for env, s in results if s == size)}, each counting alike; a seed is one training of each, so there are as many seeds as the environment with the fewest has. The paper's claim is about this table; the gain is that of the averages.", study_table(rows, list(METHODS)), *said_of_guided(rows),
                 f"![Relative gain over OPD, averaged over the environments](img/study/average_{size}_gain.png)"]
        figures[f"average_{size}_gain"] = gain_figure(rows)
    if table := size_table(results, *SIZES):
        page += ["## More for smaller students?", "Guided-OPD's gain over OPD in per cent with the smaller and with the larger student, where both were trained, and the difference of the two. The paper says that smaller students gain more; where the interval of a difference holds zero, it is not settled.", table]
    if table := size_table(results, *SIZES, "sft", "guided"):
        page += ["## Does imitation catch up with size?", "SFT relative to Guided-OPD in per cent, with the smaller and with the larger student, where both methods were trained with both; above zero SFT is ahead. A difference below zero says that imitation does better, beside guidance, with the larger student.", table]
    for (env, size), rows in results.items():
        page += [f"## {env}, {size}", "Means over seeds with 95 % bootstrap intervals; gains are relative to OPD, over the seeds that both have, resampled in pairs. With so few seeds the intervals are narrower than they should be.", study_table(rows, list(METHODS))]
        page += said_of_guided(rows)
        untuned = sorted({r["method"] for r in rows if r["method"] in METHODS} - {m for m in METHODS if tuned_lr(args.results, env, size, m)})
        if untuned: page.append(f"Not tuned (they take the recipe's learning rate): {', '.join(untuned)}.")
        metrics = read_metrics(args.results, env, size, list(METHODS))
        figures |= {f"{env}_{size}_gain": gain_figure([r for r in rows if r["method"] in METHODS]), f"{env}_{size}_learning": learning_figure(metrics)}
        page.append("![Relative gain over OPD with paired intervals](img/study/{0}_gain.png)\n\n![Success on held-out tasks by training step](img/study/{0}_learning.png)".format(f"{env}_{size}"))
        if (failed := failed_length_figure(metrics)).data:      # earlier trainings did not write it down
            figures[f"{env}_{size}_failed"] = failed
            page.append(f"How long the roll-outs are that fail:\n\n![Turns of failed roll-outs by training step](img/study/{env}_{size}_failed.png)")
        if kinds := kind_table([r for r in rows if r["method"] in (*METHODS, *REFERENCES)]):
            page += ["By type of task, greedy / sampled, means over the trainings whose files say it (from 2026-11-28 on):", "\n".join(f"| {' | '.join(cells)} |" for cells in (kinds["columns"], ["---", *["--:"]*(len(kinds["columns"]) - 1)], *kinds["rows"]))]
        page.append("More seeds: " + command(f"python benchmarks/reproduce.py --envs {env} --sizes {size}"))
        if ablated := dict.fromkeys(r["method"] for r in ablation_rows(rows)):
            figures[f"{env}_{size}_ablations"] = ablation_figure(rows)
            page += ["### Ablations", "Those of Guided-OPD are trained at the learning rate that is best for OPD, and `cosine` is Guided-OPD at that rate, against OPD; those of other methods at the method's own; where the rate is another, it was tuned for the ablation itself. Differences are in percentage points, over the seeds that both have; with three seeds or fewer they say little (a bar of two or three only spans them): two seeds of one method differ by several points.", ablation_table(rows),
                     f"![Success of ablations against what they are ablations of](img/study/{env}_{size}_ablations.png)", command(f"python benchmarks/reproduce.py --envs {env} --sizes {size} " + ("--ablations" if (env, size) == ("alfworld", "student_small") else f"--methods {','.join(ablated)}"))]
        if table := counterpart_table(rows):
            page += ["### What guidance gains where something else is changed", "Guided-OPD and OPD changed alike, over the seeds that both have; in per cent of OPD's success, and in points. With three seeds or fewer they say little, as above.", table]
        if len(longer := read_metrics(args.results, env, size, ["opd", "cosine", "opd_turns_30", "turns_30"])) == 4:
            figures[f"{env}_{size}_horizon"] = learning_figure(longer)
            page.append(f"Roll-outs of at most 30 turns in training, as long as the test's episodes, beside the study's own:\n\n![Success on held-out tasks by training step, with both horizons](img/study/{env}_{size}_horizon.png)")
    text = "\n\n".join(page) + "\n"
    (args.docs/"study.md").write_text(text, encoding="utf-8")
    draw(figures, args.docs/"img"/"study")
    return text

def said_of_guided(rows):
    "What an interval of Guided-OPD's gain says, a sentence each for greedy and sampled."
    from guided_opd.compare import paired, summarise_rows
    out = []
    for r in summarise_rows(rows):
        if r["method"] == "guided" and r["success_gain_ci"]:
            (lo, hi), both = r["success_gain_ci"], [*zip(*paired(rows, "guided", "opd", r["decoding"], "success"))]
            n, ahead = len(both), sum(guided > opd for guided, opd in both)
            out.append(f"Guided-OPD, {r['decoding']}, {n} seeds: {r['success_gain']:+.0f} % success [{lo:+.0f} %, {hi:+.0f} %], ahead in {ahead} of {n} seeds. " + (("The interval is clear of zero." + f" That is less than it seems: it always is when all seeds agree in sign, and two equal methods agree so in {2.**(1 - n):.0%} of comparisons."*(ahead in (0, n))) if lo > 0 or hi < 0 else "The interval holds zero, so this does not settle it."))
    return out

def draw(figures, folder, inks={"": None}): # colour of the text by what is put behind a picture's name; None leaves a grey that both themes bear
    "Pictures of the figures with a transparent ground, for light and dark pages; by a chromium, where there is one."
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser: return print(f"No chromium was found, so the pictures in {folder} stay as they are.")
    from playwright.sync_api import sync_playwright
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        chrome = p.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = chrome.new_page(viewport=dict(width=820, height=600), device_scale_factor=1.5)
        for (name, fig), (suffix, ink) in product(figures.items(), inks.items()):
            if ink: fig.update_layout(font_color=ink)
            page.set_content(f"<body style='margin:0;background:transparent'>{fig.to_html(full_html=False, include_plotlyjs=True, config=dict(staticPlot=True), default_width='800px')}</body>")
            page.wait_for_selector(".plotly .main-svg")
            page.locator(".js-plotly-plot").screenshot(path=folder/f"{name}{suffix}.png", omit_background=True)
        chrome.close()


def main():
    listed = lambda s: s.split(",")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--envs", type=listed, default=ENVS, metavar="A,B"); p.add_argument("--sizes", type=listed, default=SIZES, metavar="A,B", help=f"of {', '.join(SIZES)}")
    p.add_argument("--methods", type=listed, default=tuple(METHODS), metavar="A,B", help="methods or ablations"); p.add_argument("--seeds", type=int, help="trainings of each; 5 unless it is said, with --tune 1")
    p.add_argument("--ablations", action="store_true", help="also every ablation, on ALFWorld with the small student"); p.add_argument("--tune", action="store_true", help="run the trainings that choose learning rates")
    p.add_argument("--jobs", type=int, default=1, help="cells at once, each with one thread on a CPU"); p.add_argument("--dry-run", action="store_true", help="list the cells only"); p.add_argument("--tables-only", action="store_true", help="run nothing; write tables and figures")
    p.add_argument("--results", type=Path, default=HERE/"results", metavar="DIR"); p.add_argument("--work", type=Path, default=Path("runs/study"), metavar="DIR"); p.add_argument("--docs", type=Path, default=HERE.parent/"docs", metavar="DIR")
    p.add_argument("--smoke", action="store_true", help="cells of two updates and two episodes, to try the command (with --results and --work elsewhere)")
    args = p.parse_args()
    if args.seeds is None: args.seeds = 1 if args.tune else 5
    if min(args.jobs, args.seeds) < 1: sys.exit("--jobs and --seeds must be 1 or more.")
    if args.smoke and args.results == HERE/"results": sys.exit("--smoke makes results that mean nothing: give --results and --work other folders.")
    if not args.tables_only:
        cells, reasons = plan(args)
        show_plan(cells, reasons, args)
        if args.dry_run: return
        from guided_opd.compare import run_at_once
        while work := work_left(plan(args)[0], args): run_at_once(work, args.jobs, "study")      # a tuned rate at the edge of those tried asks for another
    if not args.smoke: print(report(args))

if __name__ == "__main__":
    try: main()
    except KeyboardInterrupt: sys.exit("Stopped. The same command goes on from here.")
    except (ValueError, OSError, RuntimeError) as e: sys.exit(f"reproduce: {' '.join(str(e).split())}")
