"""Settings that are not the defaults, beside what `workdirs.make` sets."""

from catid2_jax.reporting import configuration


def test_what_all_systems_have_is_said_once(comparison):
    (table,) = (
        block
        for block in configuration.section(comparison).blocks
        if getattr(block, "title", "") == "Settings that are not the defaults"
    )
    systems = "CAT-ID2", "TIGER", "BM25", "CAT-ID2 @1"
    assert tuple(table.columns) == ("setting", "default", "every system", *systems)
    nothing = "", "", "", ""
    assert table.rows == [
        ("seed", "0", "", "0", "0", "0", "1"),
        ("evaluate.cutoffs", "[5, 10, 20, 50, 100]", "[1, 2, 10]", *nothing),
        ("retrieve.k", "100", "10", *nothing),
        ("retrieve.beams", "100", "10", *nothing),
    ]
