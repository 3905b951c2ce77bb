"""The requests and answers of the service, as OpenAPI says them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Method = Literal["generated", "bm25", "hybrid", "clusters"]
"""How products are ranked: by generated IDs, by BM25, by both, fused by reciprocal ranks, or those
beneath generated prefixes by dense scores."""

ProductId = Annotated[str, Field(min_length=1, max_length=512)]
CategoryPath = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=64)
]
CategoryText = Annotated[str, Field(min_length=1, max_length=4096)]


_DEEPEST = 32


class Strict(BaseModel):
    """A part of a request: unknown fields and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """JSON has escapes for halves of characters, which no text has, and no end of nesting."""
        rest = [(values, 0)]
        while rest:
            value, depth = rest.pop()
            if depth > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST} deep")
            if isinstance(value, str) and not value.isascii():
                if any("\ud800" <= letter <= "\udfff" for letter in value):
                    raise ValueError("a lone surrogate in a text")
            elif isinstance(value, dict):
                rest += [(inner, depth + 1) for pair in value.items() for inner in pair]
            elif isinstance(value, list):
                rest += [(inner, depth + 1) for inner in value]
        return values


class AttributeFilter(Strict):
    """What a further field of a product must be; a product without the field is not found."""

    at_least: float | None = Field(None, allow_inf_nan=False)
    at_most: float | None = Field(None, allow_inf_nan=False)
    one_of: list[str] | None = Field(None, max_length=1000)


class FilterRequest(Strict):
    """What may be found; a product must meet all conditions."""

    allow_ids: list[ProductId] | None = None
    deny_ids: list[ProductId] | None = None
    allow_categories: list[CategoryPath | CategoryText] | None = None
    deny_categories: list[CategoryPath | CategoryText] | None = None
    attributes: dict[str, AttributeFilter] | None = Field(None, max_length=16)


class Options(Strict):
    """What the requests for products share."""

    k: int = Field(10, ge=1, description="products per query, at most the server's beams")
    method: Method = "generated"
    exact: bool = Field(
        False, description="search again with more beams until the results are proven"
    )
    filter: FilterRequest | None = None


class RetrieveRequest(Options):
    """One query or several."""

    queries: str | list[str]


class SimilarRequest(Options):
    """A product whose like is looked for; it is not among the hits."""

    id: ProductId


class Listed(BaseModel):
    """A product, in short."""

    id: str
    title: str
    categories: list[str]
    docid: str
    tokens: list[str] = Field(description="the document ID as it is generated, token by token")


class Hit(Listed):
    """A product that was found."""

    score: float = Field(
        description="log-probability of the ID; BM25's score; sum of 1/(60 + rank); inner product"
    )


class Result(BaseModel):
    """What a query found, best first."""

    proven: bool | None = Field(
        description="whether no other product can have a higher score; null if it is not known"
    )
    hits: list[Hit]


class RetrieveAnswer(BaseModel):
    """A result per query, all by one version."""

    version: str
    results: list[Result]


class SimilarAnswer(BaseModel):
    """What is like a product."""

    version: str
    result: Result


class ProductAnswer(BaseModel):
    """A product, its ID, and the products whose IDs share the longest prefix with it."""

    version: str
    id: str
    title: str
    text: str
    categories: list[str]
    extra: dict[str, Any]
    docid: str
    tokens: list[str]
    codes: list[int]
    in_stock: bool
    neighbours: list[Listed]


class Child(BaseModel):
    """A node of the tree of IDs."""

    docid: str
    products: int
    category: list[str] = Field(description="the most frequent category beneath it")
    examples: list[str]


class TreeAnswer(BaseModel):
    """What is beneath a prefix of IDs."""

    version: str
    docid: str
    products: int
    children: list[Child]
    ids: list[str] = Field(description="at most 100 of the products beneath it; none of the root")


class ProductChange(Strict):
    """A product that is new, or replaces the one with its id."""

    id: ProductId
    title: str = Field(min_length=1, max_length=4096)
    text: str = Field("", max_length=65_536)
    categories: list[Annotated[str, Field(min_length=1, max_length=512)]] = Field(
        min_length=1, max_length=64
    )
    extra: dict[str, Any] = Field(default_factory=dict)
    docid: str = Field(
        "", max_length=512, description="its document ID; empty to keep that of the one before"
    )


class ProductsRequest(Strict):
    """Products that are added, changed or removed, all at once."""

    upsert: list[ProductChange] = Field(default_factory=list, max_length=100_000)
    remove: list[ProductId] = Field(default_factory=list, max_length=100_000)

    @model_validator(mode="after")
    def _each_once(self) -> "ProductsRequest":
        ids = [*(product.id for product in self.upsert), *self.remove]
        if len(set(ids)) < len(ids):
            raise ValueError("every product at most once")
        if not ids:
            raise ValueError("at least one product")
        return self


class StockRequest(Strict):
    """All products that are out of stock; the others are in stock."""

    out_of_stock: list[ProductId] = Field(max_length=10_000_000)


class VersionRequest(Strict):
    """A bundle in the server's folder of versions."""

    bundle: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class VersionAnswer(BaseModel):
    """The version that answers from now on."""

    version: str
    products: int
    out_of_stock: int


class StatusAnswer(BaseModel):
    """Whether the server lives, or is ready."""

    status: str
    version: str
    products: int
    beams: int = Field(description="the most products of an answer")
    compilations: int = Field(description="after the warm-up, which must remain 0")


class Problem(BaseModel):
    """What is wrong with a request."""

    error: str
    field: str = Field("", description="the field of the request at fault; empty if it is none")
