"""A steady stream of chat requests through Envoy, counted by outcome, while a test does something to the system."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from types import TracebackType

import aiohttp


class SteadyLoad:
    """Sends `rate` requests a second to `endpoint` in a thread of its own until the `with` block ends.

    `outcomes` counts "200", other status codes and exception names; `pods` counts the answering pods; `failed` holds
    when each request that failed had begun.
    """

    def __init__(self, endpoint: str, model: str, rate: float = 20) -> None:
        self.outcomes: Counter[str] = Counter()
        self.pods: Counter[str] = Counter()
        self.details: list[str] = []
        self.failed: list[float] = []
        self._url, self._model, self._rate = f"{endpoint}/v1/chat/completions", model, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    @property
    def failures(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome != "200")

    def pods_since(self, seconds: float) -> set[str]:
        """Which pods answered during the next `seconds`."""
        self.pods.clear()
        time.sleep(seconds)
        return set(self.pods)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        body = {"model": self._model, "max_tokens": 8, "messages": [{"role": "user", "content": "say something"}]}
        began = time.time()
        try:
            async with session.post(self._url, json=body) as answer:
                text = await answer.text()
                self.outcomes[str(answer.status)] += 1
                self.pods[answer.headers.get("target-pod", "")] += 1
                if answer.status != 200:
                    self.failed.append(began)
                    self.details.append(f"{time.time():.3f} {answer.status} {dict(answer.headers)} {text[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.outcomes[type(error).__name__] += 1
            self.failed.append(began)
            self.details.append(f"{time.time():.3f} {error!r}")

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=30)
        pending: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            while not self._stop.is_set():
                task = asyncio.create_task(self._send(session))
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(1 / self._rate)
            await asyncio.gather(*pending)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
