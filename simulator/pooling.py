"""Embeddings and reranking: numbers that depend on the tokens alone, so that equal input has equal output."""

from __future__ import annotations

import base64
import math
import os
import time
from array import array
from collections.abc import Sequence
from random import Random

from simulator import fields
from simulator.answers import json_response
from simulator.errors import ContextExceededError, InvalidParameterError
from simulator.fields import Body, parse_body
from simulator.requests import read_tokens
from simulator.responses import Json
from simulator.service import Service
from simulator.wire import Request, Response

MOST_INPUTS = 2048
MOST_INPUT_TOKENS = 8192
LARGEST_DIMENSIONS = 16384
EMBEDDING_SIZE, LARGE_EMBEDDING_SIZE = 1536, 3072
MOST_DOCUMENTS = 2048


async def embeddings(service: Service, request: Request) -> Response:
    """Answer a unit vector for each input."""
    body = parse_body(request.body)
    inputs = _inputs(service, fields.required(body, "input"))
    model = _model(service, body, "input")
    size = _dimensions(service, body, model)
    encoding = body.get("encoding_format")
    if encoding not in {None, "float", "base64"}:
        raise InvalidParameterError("encoding_format must be 'float' or 'base64'.", "encoding_format", encoding)
    vectors = [unit_vector(tokens, size) for tokens in inputs]
    data = [
        {"object": "embedding", "index": place, "embedding": _packed(vector) if encoding == "base64" else vector}
        for place, vector in enumerate(vectors)
    ]
    tokens = sum(map(len, inputs))
    return json_response(
        {
            "id": f"embd-{os.urandom(8).hex()}",
            "object": "list",
            "created": int(time.time()),
            "model": model,
            "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }
    )


async def rerank(service: Service, request: Request) -> Response:
    """Answer the documents by how many words they share with the query, best first."""
    body = parse_body(request.body)
    query = fields.string(fields.required(body, "query"), "body.query")
    documents = fields.array(fields.required(body, "documents"), "body.documents")
    if not documents or len(documents) > MOST_DOCUMENTS:
        raise InvalidParameterError(f"documents must hold 1 to {MOST_DOCUMENTS} entries", "documents")
    texts = [_document(value, place) for place, value in enumerate(documents)]
    model = _model(service, body, "query")
    wanted = service.tokenizer.encode(query)
    tokens = [service.tokenizer.encode(text) for text in texts]
    results = [
        {"index": place, "document": {"text": text}, "relevance_score": relevance(query, text)}
        for place, text in enumerate(texts)
    ]
    results.sort(key=lambda result: -float(str(result["relevance_score"])))
    top = fields.integer(body, "top_n")
    if top is not None and top > 0:
        results = results[:top]
    used = len(wanted) * len(texts) + sum(map(len, tokens))
    usage: Json = {"prompt_tokens": used, "total_tokens": used}
    return json_response({"id": f"rerank-{int(time.time())}", "model": model, "usage": usage, "results": results})


def unit_vector(tokens: Sequence[int], size: int) -> list[float]:
    """Return a vector of length one that is a function of the tokens."""
    random = Random(repr(tokens))  # noqa: S311 - a hash, not a secret
    values = [random.gauss(0, 1) for _ in range(size)]
    norm = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / norm for value in values]


def relevance(query: str, document: str) -> float:
    """Return the share of the query's words in the document, a little moved so that ties are rare; 0 to 1."""
    asked = set(query.lower().split())
    shared = len(asked & set(document.lower().split())) / max(len(asked), 1)
    return round(0.9 * shared + 0.1 * Random(repr((query, document))).random(), 6)  # noqa: S311


def _inputs(service: Service, value: object) -> list[list[int]]:
    """Return token ids per input, from a text, texts, ids, or lists of ids. Raises an ApiError."""
    if isinstance(value, str):
        given: list[object] = [value]
    else:
        items = fields.array(value, "body.input")
        given = [items] if items and isinstance(items[0], int) else items
    if not given or len(given) > MOST_INPUTS:
        raise InvalidParameterError(f"input must hold 1 to {MOST_INPUTS} entries, got {len(given)}.", "input")
    inputs = [_tokens(service, item, f"body.input.{place}") for place, item in enumerate(given)]
    for tokens in inputs:
        if not tokens:
            raise InvalidParameterError("input must not be empty", "input")
        if len(tokens) > MOST_INPUT_TOKENS:
            raise ContextExceededError(MOST_INPUT_TOKENS, len(tokens), None)
    return inputs


def _tokens(service: Service, item: object, location: str) -> list[int]:
    if isinstance(item, list):
        return read_tokens(item, location)
    return service.tokenizer.encode(fields.string(item, location))


def _dimensions(service: Service, body: Body, model: str) -> int:
    asked = fields.integer(body, "dimensions")
    if asked is None:
        return service.settings.embedding_size or (LARGE_EMBEDDING_SIZE if "large" in model else EMBEDDING_SIZE)
    if not 1 <= asked <= LARGEST_DIMENSIONS:
        raise InvalidParameterError(f"dimensions must be 1 to {LARGEST_DIMENSIONS}.", "dimensions", asked)
    return asked


def _model(service: Service, body: Body, source: str) -> str:
    model = body.get("model")
    if model is None or model == "":
        raise InvalidParameterError(f"'{source}' and 'model' are required parameters", "model")
    name = fields.string(model, "body.model")
    service.adapter_of(name)
    return name


def _document(value: object, place: int) -> str:
    if isinstance(value, dict):
        value = value.get("text")
    return fields.string(value, f"body.documents.{place}")


def _packed(vector: Sequence[float]) -> str:
    """Return little-endian 32-bit floats in base64."""
    return base64.b64encode(array("f", vector).tobytes()).decode()
