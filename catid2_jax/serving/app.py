"""The routes of the service, each a few lines over `service.Service`."""

import hmac
import json
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

import catid2_jax
from catid2_jax.docids.table import format_docid, parse_docid
from catid2_jax.errors import InputError, system_error
from catid2_jax.serving.compilations import Compilations
from catid2_jax.serving.engine import QueueFull
from catid2_jax.serving.limits import LOG, Limits
from catid2_jax.serving.schema import (
    Listed,
    Problem,
    ProductAnswer,
    ProductsRequest,
    RetrieveAnswer,
    RetrieveRequest,
    SimilarAnswer,
    SimilarRequest,
    StatusAnswer,
    StockRequest,
    TreeAnswer,
    VersionAnswer,
    VersionRequest,
)
from catid2_jax.serving.service import Ranked, Service
from catid2_jax.serving.version import Version

PAGE = pathlib.Path(__file__).with_name("page.html")

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "no key, or another one"},
    408: {"model": Problem, "description": "the request did not arrive in time"},
    413: {"model": Problem, "description": "a body that is too large"},
    422: {"model": Problem, "description": "a field that is wrong"},
}
_BUSY: dict[int | str, dict[str, Any]] = {
    429: {"model": Problem, "description": "too many queries wait; see Retry-After"},
    503: {"model": Problem, "description": "no result in time, or not ready"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "unknown"}}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "refused; the version before answers on"}
}


def make_app(
    service: Service, compilations: Compilations, key: str = "", admin_key: str = ""
) -> FastAPI:
    """The application.

    Args:
        service: answers.
        compilations: counted since the start.
        key: what a client must send as its bearer token; empty if everyone may ask.
        admin_key: what who changes products, stock or versions must send; empty if nobody may.
    """
    app = FastAPI(
        title="catid2_jax",
        version=catid2_jax.__version__,
        description="Product retrieval by generated document IDs.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.draining = False
    app.add_middleware(Limits, config=service.config, metrics=service.metrics)
    _handle_errors(app)
    _add_status(app, service, compilations, _guard(key))
    _add_retrieval(app, service, _guard(key))
    _add_products(app, service, _guard(key))
    _add_changes(app, service, _guard(admin_key, closed=True))
    return app


def _guard(key: str, closed: bool = False) -> Any:
    """A dependency that lets a request pass with the right bearer token only.

    The two are compared in constant time. Without a key everything passes; if `closed`, nothing.
    """
    scheme = HTTPBearer(auto_error=False)

    async def check(  # a plain function would go through a thread
        given: Annotated[HTTPAuthorizationCredentials | None, Security(scheme)],
    ) -> None:
        if not key and not closed:
            return
        token = (given.credentials if given else "").encode("utf-8", "surrogatepass")
        if not key or not hmac.compare_digest(token, key.encode()):
            raise HTTPException(401, "a valid key is needed", {"WWW-Authenticate": "Bearer"})

    return Depends(check)


def _problem(
    status: int, error: str, field: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": error, "field": field}, status, headers)


def _handle_errors(app: FastAPI) -> None:
    """Every error is a `Problem`; none has a stack trace."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"]]
        field = ".".join(where[1:] if where[0] in ("body", "query", "path") else where)
        return _problem(422, str(first["msg"]), field if first["type"] != "json_invalid" else "")

    @app.exception_handler(InputError)
    async def _wrong(request: Request, error: InputError) -> JSONResponse:
        text = f"found {error.found}, expected {error.expected}"
        return _problem(422, text.encode("utf-8", "replace").decode(), error.where)

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> JSONResponse:
        # FastAPI's answer to a body that is no JSON in other ways than its parser knows.
        status = 422 if error.status_code == 400 else error.status_code
        return _problem(status, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(QueueFull)
    async def _full(request: Request, error: QueueFull) -> JSONResponse:
        return _problem(429, str(error), headers={"Retry-After": str(error.retry_after)})

    @app.exception_handler(TimeoutError)
    async def _late(request: Request, error: TimeoutError) -> JSONResponse:
        return _problem(503, "no result in time", headers={"Retry-After": "1"})

    @app.exception_handler(Exception)
    async def _broken(request: Request, error: Exception) -> JSONResponse:
        return _problem(500, "an error of the server")


def _add_status(app: FastAPI, service: Service, compilations: Compilations, guard: Any) -> None:
    def status(word: str) -> StatusAnswer:
        version = service.living.current
        return StatusAnswer(
            status=word,
            version=version.name,
            products=len(version.catalog),
            beams=version.search.beams,
            compilations=compilations.serving,
        )

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=_PAGE_HEADERS)

    @app.get("/health", summary="Whether the server lives", responses={503: {"model": Problem}})
    async def health() -> StatusAnswer:
        if not service.engine.alive:
            raise HTTPException(503, "the search has ended")
        return status("alive")

    @app.get("/ready", summary="Whether it takes requests", responses={503: {"model": Problem}})
    async def ready() -> StatusAnswer:
        if app.state.draining or not service.engine.alive:
            raise HTTPException(503, "about to end")
        return status("ready")

    @app.get(
        "/metrics",
        summary="Prometheus's metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_PROBLEMS},
        dependencies=[guard],
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


_PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}


def _result(version: Version, ranked: Ranked) -> str:
    """A `Result` as JSON, of kept parts."""
    hits = ", ".join(
        f'{{{version.fragment(row)}, "score": {score!r}}}' for row, score in ranked.hits
    )
    return f'{{"proven": {json.dumps(ranked.proven)}, "hits": [{hits}]}}'


def _add_retrieval(app: FastAPI, service: Service, guard: Any) -> None:
    def answer(text: str) -> Response:
        return Response(text.encode(), media_type="application/json")

    def note(request: Request, version: Version, texts: Sequence[str]) -> None:
        log: dict[str, Any] = {"version": version.name, "queries": len(texts)}
        if service.config.log_queries:
            log["texts"] = list(texts)
        request.scope["state"]["log"] = log

    @app.post(
        "/v1/retrieve",
        summary="Products for one query or several",
        response_model=RetrieveAnswer,
        responses={**_PROBLEMS, **_BUSY},
        dependencies=[guard],
    )
    async def retrieve(body: RetrieveRequest, request: Request) -> Response:
        version = service.living.current
        texts = [body.queries] if isinstance(body.queries, str) else body.queries
        note(request, version, texts)
        found = await service.rank(version, texts, body)
        results = ", ".join(_result(version, ranked) for ranked in found)
        return answer(f'{{"version": {json.dumps(version.name)}, "results": [{results}]}}')

    @app.post(
        "/v1/similar",
        summary="Products that the title of a product finds",
        response_model=SimilarAnswer,
        responses={**_PROBLEMS, **_BUSY, **_UNKNOWN},
        dependencies=[guard],
    )
    async def similar(body: SimilarRequest, request: Request) -> Response:
        version = service.living.current
        row = version.catalog.rows.get(body.id)
        if row is None:
            raise HTTPException(404, "an unknown product")
        title = version.catalog.titles[row][: service.config.query_length]
        note(request, version, [title])
        (found,) = await service.rank(version, [title], body, extra=1)
        others = [hit for hit in found.hits if hit[0] != row][: body.k]
        result = _result(version, Ranked(others, found.proven))
        return answer(f'{{"version": {json.dumps(version.name)}, "result": {result}}}')


def _add_products(app: FastAPI, service: Service, guard: Any) -> None:
    known = {**_PROBLEMS, **_UNKNOWN}

    @app.get(
        "/v1/products/{product_id:path}",
        summary="A product, its ID and its neighbours in the tree of IDs",
        responses=known,
        dependencies=[guard],
    )
    def product(
        product_id: Annotated[str, Path(max_length=512)],
        neighbours: Annotated[int, Query(ge=0, le=100)] = 10,
    ) -> ProductAnswer:
        version = service.living.current
        row = version.catalog.rows.get(product_id)
        if row is None:
            raise HTTPException(404, "an unknown product")
        found = version.catalog[row]
        codes = [code for code in version.table.codes[row].tolist() if code >= 0]
        return ProductAnswer(
            version=version.name,
            id=found.id,
            title=found.title,
            text=found.text,
            categories=list(found.categories),
            extra=dict(found.extra),
            docid=format_docid(codes),
            tokens=version.tokens(row),
            codes=codes,
            in_stock=bool(version.everything.allowed[row]),
            neighbours=[Listed(**version.describe(n)) for n in version.neighbours(row, neighbours)],
        )

    def tree_of(codes: Sequence[int]) -> TreeAnswer:
        version = service.living.current
        found = version.tree(codes)
        if found is None:
            raise HTTPException(404, "no product beneath this prefix")
        return TreeAnswer(version=version.name, **found)

    @app.get(
        "/v1/tree", summary="The root of the tree of IDs", responses=known, dependencies=[guard]
    )
    def root() -> TreeAnswer:
        return tree_of([])

    @app.get(
        "/v1/tree/{prefix}",
        summary="What is beneath a prefix of IDs, such as <a_65><b_225>",
        responses=known,
        dependencies=[guard],
    )
    def tree(prefix: Annotated[str, Path(max_length=512)]) -> TreeAnswer:
        try:
            codes = parse_docid(prefix)
        except InputError as error:
            raise error.within("prefix") from error
        return tree_of(codes)


def _add_changes(app: FastAPI, service: Service, guard: Any) -> None:
    settings: Any = {"responses": {**_PROBLEMS, **_CONFLICT}, "dependencies": [guard]}

    def changed(change: Any, *arguments: Any) -> VersionAnswer:
        """Makes a change; what goes wrong leaves the version as it is."""
        try:
            version = change(*arguments)
        except InputError as error:
            _note_change(service, "refused", str(error))
            raise
        except Exception as error:
            _note_change(service, "failed", repr(error))
            reason = system_error(error) or f"{type(error).__name__}: {error}"
            raise HTTPException(409, f"{reason}"[:500]) from error
        service.metrics.set_version(version.name)
        _note_change(service, "applied", version.name)
        return VersionAnswer(
            version=version.name,
            products=len(version.catalog),
            out_of_stock=version.out_of_stock,
        )

    @app.put("/v1/admin/stock", summary="Replaces the list of what is out of stock", **settings)
    def stock(body: StockRequest) -> VersionAnswer:
        return changed(service.living.set_stock, body.out_of_stock)

    @app.post("/v1/admin/products", summary="Adds, changes and removes products", **settings)
    def products(body: ProductsRequest) -> VersionAnswer:
        records = [product.model_dump() for product in body.upsert]
        return changed(service.living.change_products, records, body.remove)

    @app.post("/v1/admin/version", summary="Switches to another bundle", **settings)
    def version(body: VersionRequest) -> VersionAnswer:
        return changed(service.living.switch, body.bundle)


def _note_change(service: Service, outcome: str, about: str) -> None:
    service.metrics.changes.labels(outcome).inc()
    LOG.info("change", extra={"fields": {"outcome": outcome, "about": about[:500]}})
