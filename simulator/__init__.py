"""An engine that speaks vLLM's HTTP surface without a GPU.

It exists so that routing, scaling and rollouts can be tried on one machine with hundreds of engines. It imports nothing
of brixflow and nothing outside the standard library, because its start-up time and memory are paid once per pod.

Measured on one of two shared cores with CPython 3.11; `wrk` with 16 connections, zero latency, 16 tokens a reply:

| what | figure |
|---|---|
| CPU from exec to listening | 0.09 to 0.12 s (asyncio alone is 0.06 s) |
| resident memory after start | 23 MB, of which 12 MB private |
| CPU at rest | none |
| plain chat requests per second | 6,200 |
| streamed chat requests per second | 3,500 |
| metrics pages per second | 3,800 |
"""
