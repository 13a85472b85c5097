"""An engine that speaks the HTTP surface of vLLM, SGLang or TensorRT-LLM without a GPU.

It exists so that routing, scaling, adapters and rollouts can be tried on one machine with hundreds of engines. It
imports nothing of brixflow, and at start nothing outside the standard library, because start-up time and memory are
paid once per pod: ZeroMQ, msgpack and vocabularies are loaded by the settings that need them, most handlers with the
first request for their path. `docs/simulator.md` says what is modelled and how it is set.

    server, wire ─► app ─► routes ─► generation, pooling, audio, ... ─► engine ─► scheduler ─► kv_cache ─► kv_events
                                                                           └─► paced or stepped, with a latency model

Measured with CPython 3.11 on one of two shared cores by `python -m benchmarks --only simulator`, the machine partly
busy with other work:

| what | figure |
|---|---|
| CPU from exec to listening | 0.09 to 0.12 s (asyncio alone is 0.06 s) |
| resident memory after start | 25 MB, of which 14 MB private |
| CPU at rest | none |
| plain chats of 16 tokens per second, zero latency | 3,900 to 4,100 |
| 1,000 open streams of 20 tokens/s: error of the time between tokens, p99 | 1.6 to 5.3 ms |

A streamed token costs about 30 microseconds, two thirds of them in the kernel's `send`; a thousand streams thus keep
a core three quarters busy, and their pace suffers when other work takes more than a quarter of that core.
"""
