"""What a report shows: the flags of the verb `report`."""

import dataclasses

from catid2_jax.constraints import PositiveInt, Seed, check_fields


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What a report shows, and how much of a large catalogue.

    Attributes:
        systems: names of the systems with IDs that are shown side by side, with commas between;
            empty for the first two.
        categories: category paths whose products are drawn on the map, as "Toys > Puzzles", with
            semicolons between; empty for the four largest of the first level that has four.
        category: the category whose products' IDs stand side by side, as a path; empty for the
            largest that has no further categories.
        prefix: the prefix of IDs whose words are shown, as `<a_65>`; empty for that of most
            products.
        documents: products on the map, drawn at random where there are more.
        seed: seed of all samples and of t-SNE.
    """

    systems: str = ""
    categories: str = ""
    category: str = ""
    prefix: str = ""
    documents: PositiveInt = 1500
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
