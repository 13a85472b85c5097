"""An engine that speaks vLLM's HTTP surface without a GPU.

It exists so that routing, scaling and rollouts can be tried on one machine with hundreds of engines. It imports nothing
of brixflow and nothing outside the standard library, because its start-up time and memory are paid once per pod.
"""
