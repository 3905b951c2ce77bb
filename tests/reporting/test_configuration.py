"""Settings that are not the defaults, against the records of the steps."""

from catid2_jax.reporting import configuration


def test_what_all_systems_have_is_said_once(comparison):
    (table,) = (
        block
        for block in configuration.section(comparison).blocks
        if getattr(block, "title", "") == "Settings that are not the defaults"
    )
    place = table.columns.index("every system")
    for row in table.rows:
        setting, default = row[:2]
        said = set()
        for run in comparison.main.systems:
            records = (*comparison.main.records.values(), *run.records.values())
            values = [configuration._recorded(run, comparison)] if records else []
            said |= {configuration._shown(v[setting]) for v in values if setting in v}
        others = {cell for n, cell in enumerate(row[2:], 2) if n != place and cell}
        assert (row[place] != "") == (len(said) == 1), setting
        assert others == (set() if row[place] else said)
        assert said != {default}
