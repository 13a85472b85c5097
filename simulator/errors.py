"""Every error that a client can see, in the shape in which vLLM sends it.

SimulatorError
├── ApiError                      an OpenAI error object under a status; final unless said otherwise
│   ├── InvalidFieldsError        400, the body's structure or a type is wrong
│   ├── InvalidParameterError     400, a value is outside what the engine takes
│   │   └── ContextExceededError  400, prompt or output do not fit the model
│   ├── ModelNotFoundError        404
│   ├── UnauthorizedError         401
│   ├── AdapterNotFoundError      404, no such adapter, or nothing at its path
│   ├── InvalidUserInputError     400, an adapter call that cannot be followed
│   ├── QueueFullError            503, retry later
│   ├── EngineAsleepError         503, until somebody wakes the engine
│   ├── HandOverError             400, a decode without its prefill; 504 when the prefill never came
│   ├── TransferFailedError       500, the keys and values did not arrive
│   ├── SyntheticError            whatever failure control asks for
│   └── InternalError             500
└── RouteError                    404 or 405, a detail object, not an OpenAI error
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RETRY_AFTER_SECONDS = 1
_SHOWN_CHARACTERS = 60


class SimulatorError(Exception):
    """The root: a status, a JSON body and headers."""

    status = 500

    @property
    def body(self) -> Mapping[str, object]:
        raise AttributeError(f"{type(self).__name__} has no body")

    @property
    def headers(self) -> Mapping[str, str]:
        return {}


class ApiError(SimulatorError):
    """An OpenAI error object."""

    status = 400
    kind = "BadRequestError"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def code(self) -> int | str | None:
        return self.status

    @property
    def body(self) -> Mapping[str, object]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class InvalidFieldsError(ApiError):
    """The body breaks its schema; the message has the form of a validation report with one entry."""

    kind = "Bad Request"

    def __init__(self, kind: str, location: str, message: str, value: object, cause: str | None = None) -> None:
        entry: dict[str, object] = {"type": kind, "loc": location, "msg": message, "input": summary(value)}
        if cause is not None:
            entry["ctx"] = {"error": cause}
        super().__init__(f"1 validation error:\n  {entry!r}", location)


class InvalidParameterError(ApiError):
    """A value of the right type that the engine refuses."""

    def __init__(self, message: str, param: str, value: object = None) -> None:
        suffix = "" if value is None else f" (parameter={param}, value={summary(value)})"
        super().__init__(message + suffix, param)


class ContextExceededError(InvalidParameterError):
    """The prompt, or prompt and output together, are longer than the model's context.

    The engine stops counting one token above the limit, hence "at least".
    """

    def __init__(self, limit: int, prompt_tokens: int, output_tokens: int | None) -> None:
        shown = min(prompt_tokens, limit + 1)
        opening = f"This model's maximum context length is {limit} tokens. However, "
        if output_tokens is None or prompt_tokens > limit:
            rest = (
                f"your prompt contains at least {shown} input tokens, which exceeds this limit even without "
                "any output tokens. Please reduce the length of the input prompt."
            )
            super().__init__(opening + rest, "input_tokens", shown)
        else:
            rest = f"{output_tokens} output tokens were requested beside {prompt_tokens} input tokens. Ask for fewer."
            super().__init__(opening + rest, "max_tokens", output_tokens)


class ModelNotFoundError(ApiError):
    """The request names a model that this engine does not serve."""

    status = 404
    kind = "NotFoundError"

    def __init__(self, model: str, served: Sequence[str]) -> None:
        super().__init__(f"The model `{model}` does not exist. Valid aliases: {', '.join(served)}.", "model")


class UnauthorizedError(ApiError):
    """The bearer token is missing or wrong."""

    status = 401
    kind = "authentication_error"

    def __init__(self) -> None:
        super().__init__("Incorrect API key provided. Send the engine's key as a bearer token.")

    @property
    def code(self) -> str:
        return "invalid_api_key"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"www-authenticate": "Bearer"}


class QueueFullError(ApiError):
    """The waiting queue is at its limit. The client may retry after a moment."""

    status = 503
    kind = "ServiceUnavailableError"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The engine's waiting queue is full ({limit} requests). Retry later.")

    @property
    def headers(self) -> Mapping[str, str]:
        return {"retry-after": str(RETRY_AFTER_SECONDS)}


class EngineAsleepError(ApiError):
    """The engine sleeps and serves nothing until it is woken."""

    status = 503
    kind = "ServiceUnavailableError"

    def __init__(self) -> None:
        super().__init__("The engine is asleep. Wake it up first.")


class AdapterNotFoundError(ApiError):
    """No adapter of that name, or none at that path."""

    kind = "NotFoundError"

    def __init__(self, message: str, status: int = 404) -> None:
        super().__init__(message)
        self.status = status


class InvalidUserInputError(ApiError):
    """An adapter call that the engine cannot follow in its present state."""

    kind = "InvalidUserInput"


class HandOverError(ApiError):
    """A prefill or decode request whose other half is missing, unknown or used up; a timeout may be retried."""

    def __init__(self, message: str, param: str, status: int = 400) -> None:
        super().__init__(message, param)
        self.status = status


class TransferFailedError(ApiError):
    """The keys and values of a prefill did not arrive. The client may retry from the prefill on."""

    status = 500
    kind = "InternalServerError"

    def __init__(self) -> None:
        super().__init__("The transfer of the prompt's keys and values failed.")


class SyntheticError(ApiError):
    """An error made on purpose."""

    def __init__(self, status: int, kind: str, message: str, code: int | str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self._code = status if code is None else code

    @property
    def code(self) -> int | str | None:
        return self._code

    @property
    def headers(self) -> Mapping[str, str]:
        return {"retry-after": str(RETRY_AFTER_SECONDS)} if self.status in {429, 503} else {}


class InternalError(ApiError):
    """Something in the simulator failed; the log has the cause, the client does not."""

    status = 500
    kind = "api_error"

    def __init__(self) -> None:
        super().__init__("The engine failed to answer this request.")

    @property
    def code(self) -> None:
        return None


class RouteError(SimulatorError):
    """No such path, or not with this method."""

    def __init__(self, status: int, detail: str, allow: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self._detail = detail
        self._allow = ", ".join(allow)

    @property
    def body(self) -> Mapping[str, object]:
        return {"detail": self._detail}

    @property
    def headers(self) -> Mapping[str, str]:
        return {"allow": self._allow} if self._allow else {}


def summary(value: object) -> object:
    """Return `value` short enough for a message: containers as their size, long strings cut."""
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return value[:_SHOWN_CHARACTERS] + "..."
    return value
