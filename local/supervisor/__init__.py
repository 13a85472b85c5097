"""Keeps the parts of a local system running: starts them in order, restarts what dies, ends them in reverse.

One process a home. It knows nothing of Kubernetes: a part is a command with an environment, a health check and the
names of the parts that it needs. `python -m local.supervisor HOME` is the process, `client` speaks to it over
`HOME/supervisor.sock` with lines of JSON.

It writes down each process (`HOME/run/PART.json`: pid, start time, boot) and hands it a log file rather than a pipe.
So the parts live on when the supervisor is killed, and the next one takes them over.
"""
