"""Work directories that all tests here read, and their report."""

import pytest

from catid2_jax import report
from catid2_jax.reporting.comparison import compare
from catid2_jax.reporting.config import ReportConfig
from tests.reporting.workdirs import TITLES, make
from tests.shared import once

HOSTILE = (
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">",
    "$\\frac{1}{2}$ </script> <!-- ]]> & &amp; {{ 7 * 7 }} <b>bold</b> 100 %",
    "x" * 10_000,
    "\u202eكتاب أحمر جميل\u202c עברית",  # noqa: RUF001
    "👩‍👩‍👧‍👦 🇯🇵 🦄 \x00\x0b\x1b[31m\ud7ff\ufffe",
    "日本語の題名 ａｂｃ é̂",  # noqa: RUF001
)
"""Titles that have done harm elsewhere."""


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """One of four systems, to be read."""
    return once(tmp_path_factory, "report_workdir", make)


@pytest.fixture(scope="session")
def comparison(workdir):
    """What a report of it is about."""
    return compare([workdir], ReportConfig())


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """A folder of two work directories, "shop" with its report; its titles are hostile."""

    def write(folder):
        make(folder / "shop", (*HOSTILE, *TITLES[len(HOSTILE) :]), ("cat_id2", "tiger", "bm25"))
        make(folder / "other", TITLES, ("cat_id2", "bm25"))
        (folder / "figure5.csv").write_text(SWEEP, "utf-8")
        paths = f"--workdir={folder / 'shop'}", f"--compare={folder / 'other'}"
        report.main(["catid2 report", *paths])

    return once(tmp_path_factory, "reported", write)


SWEEP = """data,system,measure,mean
shop,figure5_alpha_0.01,recall@10,40
shop,figure5_alpha_1,recall@10,30.5
shop,figure5_alpha_0.1,recall@10,45
shop,figure5_tiger_codebook_size_64,recall@10,20
shop,figure5_codebook_size_64,recall@10,25
shop,figure5_codebook_size_64,seconds/docids,7
else,figure5_depth_1,recall@10,1
"""
"""What `reproduce figure5` leaves."""
