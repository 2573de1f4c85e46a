"""How fast is WebShop's search, how big its index, and would another engine rank the same?

    python benchmarks/webshop_search.py                  # 1,000 and 100,000 generated products
    python benchmarks/webshop_search.py 1000000 --only guided_opd tantivy sqlite

Other engines are compared if they are installed: pip install bm25s rank_bm25 tantivy; SQLite comes with Python.
Times are CPU seconds of the process, all its threads together: they mean the same on a busy machine and on an idle one.
Simplified on purpose: one process per engine, one thread, k1 = 0.9 and b = 0.4 where an engine lets us choose, and each engine's usual English
analysis (stemming where it has it). So "overlap" mixes arithmetic with analysis, which is what a user of that engine would see. It is the share of
Lucene's first ten (first fifty) products that the engine also returns among its first ten (fifty); ours is the reference, being equal to Lucene on
every recorded query. "Memory" is the growth of the process from before the build until after the queries, its peak; "open" is a fresh process that
only opens a kept index and answers one query.
"""
import argparse, json, os, random, resource, sqlite3, statistics, subprocess, sys, tempfile, time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ.setdefault(name, "1")
K = 50


def documents(folder):
    with (folder/"docs.tsv").open(encoding="utf-8") as f:
        for line in f: yield line.rstrip("\n").split("\t", 1)

def make(folder, size):
    "Documents and queries: short ones as a person would type, and whole instructions."
    from guided_opd.envs.webshop_catalogue import Generated
    shop, r = Generated(size), random.Random(0)
    with (folder/"docs.tsv").open("w", encoding="utf-8") as f:
        for p in shop: f.write(f"{p.asin}\t{p.text}\n")
    picks = [shop[r.randrange(size)] for _ in range(30 if size < 10**6 else 10)]
    queries = [q.lower() for p in picks for q in (p.query, f"{' '.join(p.wanted)} {p.query}", f"{p.instruction} with {', and '.join(f'{k}: {v[0]}' for k, v in p.options.items())}, and price lower than 50.00 dollars")]
    (folder/"queries.json").write_text(json.dumps(queries))

def ours(folder):
    from guided_opd.envs.webshop_search import BM25
    index = BM25.build(documents(folder))
    index.save(folder/"guided_opd.index")
    return lambda q: [i for i, _ in BM25.top(index, q, K)]

def open_ours(folder):
    from guided_opd.envs.webshop_search import BM25
    t = time.process_time()
    index = BM25.load(folder/"guided_opd.index")
    index.top("red shoes")
    return time.process_time()-t

def bm25s(folder):
    import bm25s
    ids, texts = zip(*documents(folder))
    index = bm25s.BM25(k1=.9, b=.4, method="lucene")
    index.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    def search(q):
        found, scores = index.retrieve(bm25s.tokenize([q], stopwords="en", show_progress=False), k=min(K, len(ids)), show_progress=False)
        return [ids[i] for i, s in zip(found[0], scores[0]) if s > 0]
    return search

def rank_bm25(folder):
    import numpy as np
    from rank_bm25 import BM25Okapi
    ids, texts = zip(*documents(folder))
    index = BM25Okapi([t.split() for t in texts], k1=.9, b=.4)
    def search(q):
        s = index.get_scores(q.split())
        best = np.argpartition(-s, min(K, len(s)-1))[:K]
        return [ids[i] for i in best[np.argsort(-s[best])]]
    return search

def tantivy(folder):
    import tantivy
    schema = tantivy.SchemaBuilder().add_text_field("id", stored=True, tokenizer_name="raw").add_text_field("text", tokenizer_name="en_stem").build()
    (folder/"tantivy").mkdir()
    index = tantivy.Index(schema, path=str(folder/"tantivy"))
    writer = index.writer(heap_size=256_000_000, num_threads=1)
    for i, text in documents(folder): writer.add_document(tantivy.Document(id=i, text=text))
    writer.commit(); writer.wait_merging_threads(); index.reload()
    searcher = index.searcher()
    def search(q):
        words = "".join(c if c.isalnum() else " " for c in q)
        return [searcher.doc(a)["id"][0] for _, a in searcher.search(index.parse_query(words, ["text"]), K).hits]
    return search

def sqlite(folder):
    db = sqlite3.connect(folder/"fts.db")
    db.execute("create virtual table docs using fts5(id unindexed, text, tokenize='porter unicode61')")
    db.executemany("insert into docs values (?, ?)", documents(folder)); db.commit()
    def search(q):
        words = " OR ".join(f'"{w}"' for w in dict.fromkeys("".join(c if c.isalnum() else " " for c in q).split()))
        return [i for i, in db.execute(f"select id from docs where docs match ? order by rank limit {K}", (words,))]
    return search

ENGINES = dict(guided_opd=ours, bm25s=bm25s, rank_bm25=rank_bm25, tantivy=tantivy, sqlite=sqlite)


def memory():
    "Peak of this process so far, in MB; Linux knows it exactly, elsewhere what the process was started from may count."
    try: return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])/1024
    except (OSError, StopIteration): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def measure(engine, folder):
    "In a process of its own: build, then query."
    before, t = memory(), time.process_time()
    search = ENGINES[engine](folder)
    built, queries = time.process_time()-t, json.loads((folder/"queries.json").read_text())
    search(queries[0])
    times, found = [], []
    for q in queries:
        t = time.process_time(); found.append(search(q)); times.append(time.process_time()-t)
    return dict(build=built, query=statistics.median(times), slow=sorted(times)[int(len(times)*.95)], memory=memory()-before, found=found)

def child(*args):
    done = subprocess.run([sys.executable, __file__, *map(str, args)], capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else dict(error=(done.stderr.strip().splitlines() or ["killed"])[-1][:60])

def overlap(found, reference, k): return statistics.mean(len(set(a[:k]) & set(b[:k]))/len(b[:k]) for a, b in zip(found, reference) if b)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[1000, 100_000])
    parser.add_argument("--only", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    args = parser.parse_args()
    print("| products | engine | build s | query ms (median) | slowest 5 % ms | memory MB | overlap@10 | overlap@50 |\n|---|---|---|---|---|---|---|---|")
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as d:
            make(Path(d), size)
            reference = None
            for engine in args.only:
                r = child("--measure", engine, d)
                if "error" in r: print(f"| {size:,} | {engine} | {r['error']} | | | | | |", flush=True); continue
                reference = reference or r["found"]
                print(f"| {size:,} | {engine} | {r['build']:.1f} | {1000*r['query']:.2f} | {1000*r['slow']:.2f} | {r['memory']:.0f} | "
                      f"{overlap(r['found'], reference, 10):.0%} | {overlap(r['found'], reference, K):.0%} |", flush=True)
                if engine == "guided_opd":
                    o = child("--open", d)
                    disk = sum(f.stat().st_size for f in (Path(d)/"guided_opd.index").iterdir())/1e6
                    print(f"| {size:,} | guided_opd, kept index ({disk:.0f} MB on disk) | open: {o['open']:.3f} | | | {o['memory']:.0f} | | |", flush=True)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]: print(json.dumps(measure(sys.argv[2], Path(sys.argv[3]))))
    elif sys.argv[1:2] == ["--open"]:
        import guided_opd.envs.webshop_search
        before = memory(); print(json.dumps(dict(open=open_ours(Path(sys.argv[2])), memory=memory()-before)))
    else: main()
