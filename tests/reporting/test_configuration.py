"""Settings that are not the defaults, beside what `workdirs.make` sets."""

from catid2_jax.reporting import configuration

SYSTEMS = "CAT-ID2", "TIGER", "BM25"
RECORDED = configuration._recorded


def test_a_configuration_stands_once_for_all_seeds(comparison):
    titles = [getattr(block, "title", "") for block in configuration.section(comparison).blocks]
    names = [title for title in titles if title.startswith("Configuration of ")]
    assert names == [f"Configuration of {name}" for name in SYSTEMS]


def test_what_all_systems_have_is_said_once(comparison):
    table = settings(comparison)
    assert tuple(table.columns) == ("setting", "default", "every system")
    assert table.rows == [
        ("evaluate.cutoffs", "[5, 10, 20, 50, 100]", "[1, 2, 10]"),
        ("retrieve.k", "100", "10"),
        ("retrieve.beams", "100", "10"),
    ]


def test_what_differs_has_a_column_per_system(comparison, monkeypatch):
    beams = {"cat_id2": 10, "tiger": 20}

    def recorded(run, of):
        own = {"retrieve.beams": beams[run.name]} if run.name in beams else {}
        return {"retrieve.k": RECORDED(run, of)["retrieve.k"], **own}

    monkeypatch.setattr(configuration, "_recorded", recorded)
    table = settings(comparison)
    assert tuple(table.columns) == ("setting", "default", "every system", *SYSTEMS[:2])
    assert table.rows == [
        ("retrieve.k", "100", "10", "", ""),
        ("retrieve.beams", "100", "", "10", "20"),
    ]


def settings(comparison):
    """The table of the settings."""
    (table,) = (
        block
        for block in configuration.section(comparison).blocks
        if getattr(block, "title", "") == "Settings that are not the defaults"
    )
    return table
