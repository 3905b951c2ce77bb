"""A client of the service for Python programs, on the standard library alone."""

import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class RemoteHit:
    """A product that was found.

    Attributes:
        id: the product's id.
        title: its title.
        categories: its category path, root first.
        docid: text of its document ID.
        tokens: the ID as it was generated, token by token.
        score: what it is ranked by.
    """

    id: str
    title: str
    categories: list[str]
    docid: str
    tokens: list[str]
    score: float


@dataclasses.dataclass(frozen=True)
class RemoteHits:
    """What a query found, best first.

    Attributes:
        hits: the products.
        proven: whether no other product can have a higher score; None if that is not known.
        version: the version of the service that answered.
    """

    hits: list[RemoteHit]
    proven: bool | None
    version: str


class ServiceError(Exception):
    """The service refused a request.

    Attributes:
        status: HTTP's status.
        error: what is wrong, in words.
        field: the field of the request at fault, or empty.
        retry_after: seconds after which it may be tried again; None if the service says nothing.
    """

    def __init__(self, status: int, error: str, field: str, retry_after: float | None) -> None:
        super().__init__(f"{status}: {f'{field}: ' if field else ''}{error}")
        self.status, self.error, self.field, self.retry_after = status, error, field, retry_after


class Client:
    """Asks a service.

    client = Client("http://127.0.0.1:8080")
    (found,) = client.retrieve(["waterproof hiking boots"], k=5)
    for hit in found.hits:
        print(hit.score, hit.docid, hit.title)
    """

    def __init__(self, url: str, key: str = "", timeout: float = 30.0) -> None:
        """Connects to nothing yet.

        Args:
            url: where the service is.
            key: its API key, if it has one.
            timeout: seconds to wait for an answer.
        """
        self._url, self._key, self._timeout = url.rstrip("/"), key, timeout

    def retrieve(self, queries: Sequence[str], k: int = 10, **options: Any) -> list[RemoteHits]:
        """Products for each query; options are `method`, `exact` and `filter`.

        Raises:
            ServiceError: the service refuses.
        """
        body = {"queries": list(queries), "k": k, **options}
        answer = self.call("POST", "/v1/retrieve", body)
        return [_hits(result, answer["version"]) for result in answer["results"]]

    def similar(self, product_id: str, k: int = 10, **options: Any) -> RemoteHits:
        """Products like one; options are those of `retrieve`."""
        answer = self.call("POST", "/v1/similar", {"id": product_id, "k": k, **options})
        return _hits(answer["result"], answer["version"])

    def product(self, product_id: str) -> dict[str, Any]:
        """A product, its ID and its neighbours."""
        return self.call("GET", f"/v1/products/{urllib.parse.quote(product_id, safe='')}")

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Any other route, by its path; the answer's JSON.

        Raises:
            ServiceError: the service refuses.
        """
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from error
        return answer


def _hits(result: dict[str, Any], version: str) -> RemoteHits:
    return RemoteHits([RemoteHit(**hit) for hit in result["hits"]], result["proven"], version)


def _refusal(error: urllib.error.HTTPError) -> ServiceError:
    """What an answer of another status than 200 says."""
    with error:
        text = error.read().decode("utf-8", "replace")
    try:
        problem = json.loads(text)
        said, field = str(problem["error"]), str(problem["field"])
    except (ValueError, KeyError, TypeError):
        said, field = text[:200], ""
    wait = error.headers.get("Retry-After")
    return ServiceError(error.code, said, field, float(wait) if wait else None)
